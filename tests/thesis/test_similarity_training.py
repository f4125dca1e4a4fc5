"""From cells to a recommender: what may be used, what is learned, what comes back from a checkpoint."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.world import make_world
from thesis_rec.base.errors import ItemError, NothingSucceeded
from thesis_rec.base.tables import TaskTokens
from thesis_rec.catalog.validators import validate_similarity_checkpoint
from thesis_rec.knowledge.kernels import Kernel
from thesis_rec.knowledge.landmark_prior import LevelSide
from thesis_rec.knowledge.quadrants import Split, assign_splits, quadrant_masks
from thesis_rec.thesis import similarity_training
from thesis_rec.thesis.features import FeatureSettings
from thesis_rec.thesis.losses import weighted_tau
from thesis_rec.thesis.recommender import Recommender, calibration_factor
from thesis_rec.thesis.similarity_training import RankerPlan, assemble, train_recommender
from thesis_rec.thesis.training_set import Inputs, TaskSet, training_table, validation_table
from thesis_rec.training.settings import FitSettings, RankerLosses, RankerTraining
from thesis_rec.truth.performance_records import clean_performance

NETWORKS = ("similarity_transformer", "cross_attention")


@pytest.fixture(scope="module")
def world():
    return make_world(n_domains=16, unknown_domains=4, subtasks=40)


@pytest.fixture(scope="module")
def cells(world):
    return clean_performance([world.records])


@pytest.fixture(scope="module")
def splits(world, cells):
    families = dict(zip(world.models.model_ids, world.models.families, strict=True))
    return assign_splits(cells, families, world.dataset_manifest, world.sides)


@pytest.fixture(scope="module")
def material(world, cells, splits):
    return assemble(world.models, world.tokens, cells, splits, world.dataset_manifest)


@pytest.fixture(scope="module")
def trained(material, tmp_path_factory):
    plan = RankerPlan(
        {"width": 32, "n_layers": 1, "n_heads": 2, "rank": 4},
        RankerTraining(models_per_step=16, tasks_per_epoch=64),
        FitSettings(epochs=10, batch_size=8, learning_rate=4e-3, accelerator="cpu"),
    )
    settings = FeatureSettings(model_components=6, factors=3)
    plans = dict.fromkeys(NETWORKS, plan)
    return train_recommender(material, settings, plans, tmp_path_factory.mktemp("runs"))


class TestMaterial:
    def test_nothing_unknown_enters(self, world, material):
        assert not any(family in world.sides["model_families"] for family in material.known.families)
        domain = dict(zip(world.dataset_manifest["dataset_id"], world.dataset_manifest["domain"], strict=True))
        for tasks in (material.training, material.validation):
            for parents in tasks.parents:
                assert not any(domain[parent] in world.sides["dataset_families"] for parent in parents)

    def test_training_and_validation_share_no_parent(self, material):
        def used(tasks):
            return {parent for group in tasks.parents for parent in group}

        assert used(material.validation)
        assert not used(material.training) & used(material.validation)
        assert material.validation.is_base.all()

    def test_withheld_cells_are_missing_in_tasks_and_their_sub_tasks(self, material, splits):
        split = Split.of(splits)
        row = {task.dataset_id: i for i, task in enumerate(material.training.tasks)}
        column = {model: i for i, model in enumerate(material.known.model_ids)}
        withheld = [(row[d], column[m]) for m, d in split.cells if d in row]
        assert len(withheld) > 10
        assert all(np.isnan(material.training.value[cell]) for cell in withheld)
        share = np.isfinite(material.training.value).mean()
        assert 0.6 < share < 0.95

    def test_the_cap_keeps_base_tasks(self, material):
        few = material.training.capped(20, seed=0)
        assert len(few.tasks) == 20
        assert few.is_base.sum() == min(20, material.training.is_base.sum())
        assert material.training.capped(10**6, seed=0) is material.training

    def test_nothing_to_train_on_says_what_is_missing(self, world, cells, splits):
        with pytest.raises(NothingSucceeded, match="0 of them with tokens"):
            assemble(world.models, {}, cells, splits, world.dataset_manifest)


class TestTables:
    SETTINGS = FeatureSettings(model_components=4, factors=2)

    def test_a_tasks_prior_does_not_move_with_its_own_cells(self, material):
        inputs = Inputs.fit(material.known, material.training, self.SETTINGS)
        before = training_table(inputs, material.known, material.training).columns["prior"]
        value = material.training.value.copy()
        value[0] = np.where(np.isfinite(value[0]), 1 - value[0], np.nan)
        changed = TaskSet(material.training.tasks, material.training.parents, value)
        after = training_table(inputs, material.known, changed).columns["prior"]
        torch.testing.assert_close(after[0], before[0])
        assert not torch.allclose(after, before)

    def test_unmeasured_cells_are_masked(self, material):
        inputs = Inputs.fit(material.known, material.training, self.SETTINGS)
        columns = training_table(inputs, material.known, material.training).columns
        assert torch.equal(columns["measured"], torch.from_numpy(np.isfinite(material.training.value)))
        assert all(column.float().isfinite().all() for column in columns.values())

    def test_validation_tasks_have_the_prior_of_an_unknown_dataset(self, material):
        inputs = Inputs.fit(material.known, material.training, self.SETTINGS)
        columns = validation_table(inputs, material.known, material.validation).columns
        expected = inputs.prior(material.known, material.validation.tasks).astype(np.float32)
        np.testing.assert_array_equal(columns["prior"].numpy(), expected)

    def test_tokens_are_padded_and_masked(self, material):
        inputs = Inputs.fit(material.known, material.training, self.SETTINGS)
        columns = training_table(inputs, material.known, material.training).columns
        lengths = [len(inputs.tokens(task)) for task in material.training.tasks]
        assert columns["token_mask"].sum(1).tolist() == lengths


def test_both_networks_beat_the_static_prior_on_unknown_datasets(world, cells, splits, trained):
    recommender, histories, choice = trained
    assert set(histories) == set(NETWORKS)
    assert all(len(runs["0"]) == 10 for runs in histories.values())
    table = cells.pivot_table(index="dataset_id", columns="model_id", values="value")[world.models.model_ids]
    masks = quadrant_masks(splits, world.models.model_ids, list(table.index))
    bases = [i for i, d in enumerate(table.index) if masks["Q3"][:, i].any() and d.startswith("domain")]
    truth = torch.from_numpy(table.to_numpy()[bases])
    mask = torch.from_numpy(masks["Q3"].T[bases])
    prior = recommender.inputs.prior.static(world.models.model_ids, world.models.families)
    baseline = weighted_tau(torch.from_numpy(prior).expand(len(bases), -1), truth, mask).mean()
    gains = {}
    for name in recommender.names:
        found = recommender.predict_many(world.models, [world.tokens[table.index[i]] for i in bases], name)
        score = torch.from_numpy(np.stack([prediction.score for prediction in found]))
        gains[name] = float(weighted_tau(score, truth, mask).mean() - baseline)
    assert min(gains.values()) > 0.0
    assert gains[recommender.selected] > 0.1
    assert choice["selected"].sum() == 1
    assert recommender.selected == choice.loc[choice["selected"], "network"].item()


class TestRecommender:
    def test_predictions_are_what_they_promise(self, world, trained):
        task = next(iter(world.tokens.values()))
        prediction = trained[0].predict(world.models, task)
        assert prediction.model_ids == world.models.model_ids
        for array in (prediction.score, prediction.value, prediction.std):
            assert array.shape == (24,)
            assert np.isfinite(array).all()
        assert ((prediction.value >= 0) & (prediction.value <= 1)).all()
        assert (prediction.std > 0).all()

    @pytest.mark.parametrize("network", [*NETWORKS, "both"])
    def test_a_checkpoint_predicts_the_same(self, world, trained, network, tmp_path):
        checkpoint = trained[0].to_checkpoint()
        validate_similarity_checkpoint(checkpoint)
        torch.save(checkpoint, tmp_path / "ranker.pt")
        again = Recommender.from_checkpoint(torch.load(tmp_path / "ranker.pt", weights_only=True))
        task = next(iter(world.tokens.values()))
        one, other = (r.predict(world.models, task, network) for r in (trained[0], again))
        for part in ("score", "value", "std"):
            np.testing.assert_allclose(getattr(one, part), getattr(other, part), rtol=1e-4, atol=1e-5)

    def test_one_dataset_or_many_give_the_same(self, world, trained):
        tasks = list(world.tokens.values())[:20]
        many = trained[0].predict_many(world.models, tasks)
        single = trained[0].predict(world.models, tasks[17])
        np.testing.assert_allclose(many[17].value, single.value, atol=1e-5)

    def test_hidden_models_are_treated_as_never_measured(self, world, material, trained):
        features, known = trained[0].model_inputs(world.models)
        hidden_features, none = trained[0].model_inputs(world.models, hidden=True)
        private = trained[0].inputs.models.n_private
        assert known.sum() == len(material.known)
        assert not none.any()
        assert (hidden_features[:, -private:] == 0).all()
        np.testing.assert_array_equal(features[:, :-private], hidden_features[:, :-private])
        task = next(iter(world.tokens.values()))
        prior = trained[0].inputs.prior
        assert not np.array_equal(prior(world.models, [task]), prior(world.models, [task], hidden=True))
        # A model that really is unknown loses nothing by being hidden.
        unknown = [not k for k in known]
        np.testing.assert_array_equal(features[unknown], hidden_features[unknown])

    def test_ensembles_count_their_disagreement(self, world, trained):
        recommender = trained[0]
        single = recommender.networks["cross_attention"][0]
        other = type(single)(**recommender.configs["cross_attention"]).eval()
        other.load_state_dict(single.state_dict())
        with torch.no_grad():
            other.heads.per_task.bias[0] += 0.2
        alone, double = (
            Recommender(
                recommender.inputs, {"cross_attention": members}, "cross_attention", configs=recommender.configs
            )
            for members in ([single], [single, other])
        )
        task = next(iter(world.tokens.values()))
        one, two = alone.predict(world.models, task), double.predict(world.models, task)
        np.testing.assert_allclose(two.std**2 - one.std**2, 0.01, atol=1e-4)
        np.testing.assert_allclose(two.score, one.score, atol=1e-5)

    def test_tokens_of_another_encoder_are_refused(self, world, trained):
        task = next(iter(world.tokens.values()))
        other = TaskTokens("mine", task.features, task.class_names, task.n_images, "resnet")
        with pytest.raises(ItemError, match="mine: was encoded by resnet"):
            trained[0].predict(world.models, other)
        narrow = TaskTokens("mine", task.features[..., :3], task.class_names, task.n_images)
        with pytest.raises(ItemError, match="an unknown encoder"):
            trained[0].predict(world.models, narrow)

    def test_an_unknown_network_or_format_is_refused(self, world, trained):
        with pytest.raises(ValueError, match="cross_attention"):
            trained[0].predict(world.models, next(iter(world.tokens.values())), "oracle")
        with pytest.raises(ItemError, match="similarity_training"):
            Recommender.from_checkpoint({"format": 99})


def test_calibration_gives_intervals_their_coverage():
    rng = np.random.default_rng(0)
    value, std = rng.random(4000), np.full(4000, 0.01)
    truth = value + 0.03 * rng.normal(size=4000)
    factor = calibration_factor(value, std, truth)
    assert factor == pytest.approx(3.0, rel=0.08)
    assert (np.abs(truth - value) <= 1.645 * factor * std).mean() == pytest.approx(0.9, abs=0.002)
    assert calibration_factor(value, std, np.full(4000, np.nan)) == 1.0


def test_validation_datasets_correct_what_training_datasets_said_in_proportion(trained, material):
    alone = trained[0]
    inputs = alone.inputs
    # A prior that knows how far it errs on training families; these tasks have no landmarks, so nothing else changes.
    prior = replace(inputs.prior, levels=LevelSide(Kernel.fit(np.eye(3), 1.0), *np.ones((3, 2))))
    bare = replace(alone, inputs=replace(inputs, prior=prior), calibration={})
    both, _ = similarity_training._choose(bare, material)
    n = len(material.validation.tasks)
    share = n / (n + int(material.training.is_base.sum()))
    assert 0 < share < 0.5
    for name, factors in alone.calibration.items():
        for side, factor in factors.items():
            assert both.calibration[name][side] == pytest.approx(factor**share)


def test_terms_without_weight_are_not_computed(material):
    from thesis_rec.thesis.ranker_module import RankerModule
    from thesis_rec.thesis.rankers import build_ranker

    inputs = Inputs.fit(material.known, material.training, FeatureSettings(model_components=4, factors=2))
    table = training_table(inputs, material.known, material.training)
    features = torch.from_numpy(inputs.models(material.known))
    network = build_ranker("cross_attention", model_dim=features.shape[1], token_dim=inputs.tokens.width, width=16)
    options = RankerTraining(losses=RankerLosses(listwise=0, pairwise=0, value=0, regression=2))
    held = torch.zeros(len(features), dtype=torch.bool)
    held[:4] = True
    module = RankerModule(network.eval(), FitSettings(), options, features, inputs.models.n_private, held)
    batch = table.__getitems__(list(range(8)))
    training = module.losses(batch, training=True)
    assert set(training) == {"loss", "regression"}
    assert training["loss"].item() == pytest.approx(2 * training["regression"].item())
    # Before any step the network is the prior, so that the error is the prior's on the models that aren't held out.
    found = module.losses(batch, training=False)
    known, z, mask = batch["prior"][:, 4:], batch["standardised"][:, 4:], batch["measured"][:, 4:]
    errors = [((p - t)[m] ** 2).mean() for p, t, m in zip(known, z, mask, strict=True)]
    assert found["regression"].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)
    expected = weighted_tau(batch["family_prior"][:, :4], batch["standardised"][:, :4], batch["measured"][:, :4])
    assert found["tau_unknown"].item() == pytest.approx(expected.nanmean().item(), abs=1e-5)


def test_a_frame_of_the_choice_is_a_plain_table(trained):
    assert isinstance(trained[2], pd.DataFrame)
    assert list(trained[2].columns) == ["network", "tau_known", "tau_hidden", "selected"]
