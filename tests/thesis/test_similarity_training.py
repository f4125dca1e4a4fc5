"""From cells to a ranker: what may be used, what is learned, what comes back from a checkpoint."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.world import make_world
from thesis_rec.base.errors import ItemError, NothingSucceeded
from thesis_rec.base.tables import TaskTokens, z_scores
from thesis_rec.catalog.validators import validate_checkpoint
from thesis_rec.evaluation.study import assemble_study
from thesis_rec.knowledge.quadrants import assign_splits
from thesis_rec.thesis.losses import weighted_tau
from thesis_rec.thesis.ranker import Inputs, Ranker
from thesis_rec.thesis.similarity_training import FLOOR, RankerModule, tensor_table, train_ranker
from thesis_rec.thesis.similarity_transformer import SimilarityTransformer
from thesis_rec.training.settings import FitSettings, RankerLosses, RankerPlan, RankerTraining
from thesis_rec.truth.performance_records import clean_performance


@pytest.fixture(scope="module")
def world():
    return make_world(n_domains=16, unknown_domains=4, subtasks=40)


@pytest.fixture(scope="module")
def study(world):
    cells = clean_performance([world.records])
    families = dict(zip(world.models.model_ids, world.models.families, strict=True))
    splits = assign_splits(cells, families, world.dataset_manifest, world.sides)
    # Sub-tasks count as tasks of their own, so that there is enough to learn from.
    manifest = world.dataset_manifest.assign(parent="", group="")
    return assemble_study(cells, splits, world.models, world.tokens, manifest)


@pytest.fixture(scope="module")
def known(study):
    return study.models.select(np.flatnonzero(study.known))


@pytest.fixture(scope="module")
def training(study):
    return study.lists("train")


@pytest.fixture(scope="module")
def trained(study, known, training, tmp_path_factory):
    plan = RankerPlan(
        network={"width": 32, "n_layers": 1, "n_heads": 2, "rank": 4},
        training=RankerTraining(models_per_step=16, tasks_per_epoch=64),
        fit=FitSettings(epochs=10, batch_size=8, learning_rate=4e-3, accelerator="cpu"),
    )
    return train_ranker(known, training, study.lists("validation"), plan, tmp_path_factory.mktemp("runs"))


def test_nothing_to_train_on_says_what_is_missing(known, tmp_path):
    with pytest.raises(NothingSucceeded, match="no training dataset with tokens"):
        train_ranker(known, ([], np.zeros((0, len(known)))), ([], np.zeros((0, len(known)))), RankerPlan(), tmp_path)


class TestInputs:
    def test_what_is_read_is_standardised_on_what_is_known(self, known, training):
        inputs = Inputs.fit(known, training[0])
        found = inputs.of_models(known)
        assert found.shape == (len(known), known.embedding.shape[1] + 1)
        np.testing.assert_allclose(found.mean(0), 0.0, atol=0.1)
        np.testing.assert_allclose(found.std(0), 1.0, atol=0.15)

    def test_what_is_not_known_of_a_model_is_average(self, known, training):
        inputs = Inputs.fit(known, training[0])
        lacking = replace(known, embedding=np.full_like(known.embedding, np.nan))
        assert (inputs.of_models(lacking)[:, :-1] == 0).all()

    def test_a_model_of_unknown_size_hides_no_other_ones(self, known, training):
        sizes = np.where(np.arange(len(known)) == 3, np.nan, known.n_parameters)
        found = Inputs.fit(replace(known, n_parameters=sizes), training[0])
        logs = np.log10(sizes[np.isfinite(sizes)])
        np.testing.assert_allclose(found.models[:, -1], [logs.mean(), logs.std()], rtol=1e-5)

    def test_they_fit_the_models_of_which_they_were_made(self, known, training):
        lacking = replace(known, embedding=known.embedding.copy())
        lacking.embedding[:, 0] = np.nan
        inputs = Inputs.fit(lacking, training[0])
        assert inputs.fits(lacking)
        assert not inputs.fits(known)
        assert not inputs.fits(replace(lacking, embedding=1.01 * lacking.embedding))

    def test_what_is_not_known_of_any_model_says_nothing_later_and_warns_of_nothing(self, known, training):
        lacking = replace(known, embedding=known.embedding.copy())
        lacking.embedding[:, 0] = np.nan
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            inputs = Inputs.fit(lacking, training[0])
        np.testing.assert_array_equal(inputs.of_models(known)[:, 0], 0)
        whole = Inputs.fit(known, training[0]).of_models(known)
        np.testing.assert_array_equal(inputs.of_models(known)[:, 1:], whole[:, 1:])

    def test_classes_beyond_the_limit_are_left_out_evenly(self, known, training):
        task = max(training[0], key=lambda item: len(item.class_names))
        whole = Inputs.fit(known, training[0]).of_task(task)
        few = Inputs.fit(known, training[0], max_tokens=2)
        assert len(whole) == len(task.class_names)
        assert few.of_task(task).shape == (2, whole.shape[1])


def test_tables_mask_what_is_not_there(known, training):
    inputs = Inputs.fit(known, training[0])
    columns = tensor_table(inputs, training)
    assert torch.equal(columns["measured"], torch.from_numpy(np.isfinite(training[1])))
    assert columns["token_mask"].sum(1).tolist() == [len(task.class_names) for task in training[0]]
    assert all(column.float().isfinite().all() for column in columns.values())


def test_standardised_cells_have_unit_spread_unless_differences_are_noise():
    values = np.array([[0.2, 0.4, 0.6, np.nan], [0.5, 0.5, 0.5 + 1e-4, 0.5]])
    found = np.nan_to_num(z_scores(values.T, FLOOR).T)
    np.testing.assert_allclose(found[0, :3], [-np.sqrt(1.5), 0, np.sqrt(1.5)], atol=1e-12)
    assert found[0, 3] == 0
    assert np.abs(found[1]).max() < 1e-4 / FLOOR


def test_training_orders_models_better_than_chance_where_nothing_was_seen(study, known, trained):
    ranker, history = trained
    assert len(history) == 10
    tasks, value = study.lists("validation")
    score = ranker.predict(known, tasks)["score"].T
    mask = np.isfinite(value)
    tau = weighted_tau(*(torch.from_numpy(x) for x in (score, np.where(mask, value, 0.0), mask)))
    assert tau.nanmean() > 0.25


@pytest.mark.parametrize(
    "fit", [{"precision": "bf16-mixed"}, {"schedule": "plateau", "plateau_patience": 0}, {"schedule": "constant"}]
)
@pytest.mark.parametrize("interact", [False, True])
def test_it_trains_with_every_choice(study, known, training, tmp_path, fit, interact):
    plan = RankerPlan(
        network={"width": 16, "n_layers": 1, "n_heads": 2, "rank": 4, "candidates_interact": interact},
        training=RankerTraining(models_per_step=8, tasks_per_epoch=16),
        fit=FitSettings(epochs=2, batch_size=8, accelerator="cpu", **fit),
    )
    ranker, history = train_ranker(known, training, study.lists("validation"), plan, tmp_path)
    assert len(history) == 2
    assert np.isfinite([value for row in history for name, value in row.items() if name != "epoch"]).all()
    assert np.isfinite(ranker.predict(known, training[0][:2])["value"]).all()


class TestRanker:
    def test_predictions_are_what_they_promise(self, world, trained):
        tasks = list(world.tokens.values())[:20]
        many = trained[0].predict(world.models, tasks)
        assert {part.shape for part in many.values()} == {(len(world.models), 20)}
        assert ((many["value"] >= 0) & (many["value"] <= 1)).all()
        assert (many["std"] > 0).all()
        single = trained[0].predict(world.models, tasks[17:18])
        np.testing.assert_allclose(many["value"][:, 17], single["value"][:, 0], atol=1e-5)

    def test_a_checkpoint_predicts_the_same(self, world, trained, tmp_path):
        checkpoint = trained[0].to_checkpoint()
        validate_checkpoint(checkpoint)
        torch.save(checkpoint, tmp_path / "ranker.pt")
        again = Ranker.from_checkpoint(torch.load(tmp_path / "ranker.pt", weights_only=True))
        task = next(iter(world.tokens.values()))
        one, other = (ranker.predict(world.models, [task]) for ranker in (trained[0], again))
        for part in ("score", "value", "std"):
            np.testing.assert_allclose(one[part], other[part], rtol=1e-4, atol=1e-5)

    def test_all_candidates_are_seen_at_once_only_where_they_interact(self, known, training, monkeypatch):
        inputs, task = Inputs.fit(known, training[0]), training[0][0]
        monkeypatch.setattr("thesis_rec.thesis.ranker._MODELS_AT_ONCE", 3)
        rows, tokens = torch.from_numpy(inputs.of_models(known)), inputs.of_task(task)[None]
        for interact in (False, True):
            config = {"model_dim": rows.shape[1], "token_dim": tokens.shape[2], "width": 16}
            network = SimilarityTransformer(**config, candidates_interact=interact).eval()
            # As they start, heads say the same of all.
            for parameter in network.heads.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
            with torch.inference_mode():
                whole = network(rows, tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))["score"][0]
            found = Ranker(network, config, inputs).predict(known, [task])["score"][:, 0]
            np.testing.assert_allclose(found, whole, atol=1e-5)

    def test_tokens_of_another_encoder_are_refused(self, world, trained):
        task = next(iter(world.tokens.values()))
        other = TaskTokens("mine", task.features, task.class_names, task.n_images, "resnet")
        with pytest.raises(ItemError, match="mine: was encoded by resnet"):
            trained[0].predict(world.models, [other])
        narrow = TaskTokens("mine", task.features[..., :3], task.class_names, task.n_images)
        with pytest.raises(ItemError, match="an unknown encoder"):
            trained[0].predict(world.models, [narrow])

    def test_another_format_is_refused(self):
        with pytest.raises(ItemError, match="similarity_training"):
            Ranker.from_checkpoint({"format": 4})


def test_terms_without_weight_are_not_computed(known, training):
    inputs = Inputs.fit(known, training[0])
    table = tensor_table(inputs, training)
    features = torch.from_numpy(inputs.of_models(known))
    network = SimilarityTransformer(features.shape[1], inputs.tokens.shape[1], width=16)
    options = RankerTraining(losses=RankerLosses(listwise=0, pairwise=0, value=0, regression=2))
    module = RankerModule(network.eval(), FitSettings(), options, features)
    batch = {name: column[:8] for name, column in table.items()}
    step = module.losses(batch, training=True)
    assert set(step) == {"loss", "regression"}
    assert step["loss"].item() == pytest.approx(2 * step["regression"].item())
    # Before any step all models are alike, so that the error is the spread of the truth.
    found = module.losses(batch, training=False)
    errors = [(t[m] ** 2).mean() for t, m in zip(batch["standardised"], batch["measured"], strict=True)]
    assert found["regression"].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)
    assert found["tau"].item() == 0.0


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_losses_of_half_precision_scores_are_those_of_the_rounded_ones(known, training, kind):
    class Rounded(torch.nn.Module):
        def __init__(self, into):
            super().__init__()
            self.into, self.whole = into, network

        def forward(self, *inputs):
            return {name: part.to(kind).to(self.into) for name, part in self.whole(*inputs).items()}

    inputs = Inputs.fit(known, training[0])
    features = torch.from_numpy(inputs.of_models(known))
    network = SimilarityTransformer(features.shape[1], inputs.tokens.shape[1], width=16).eval()
    for parameter in network.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    batch = {name: column[:8] for name, column in tensor_table(inputs, training).items()}
    half, single = (
        RankerModule(Rounded(into), FitSettings(), RankerTraining(), features).losses(batch, training=False)
        for into in (kind, torch.float32)
    )
    for name, value in single.items():
        assert half[name].item() == pytest.approx(value.item(), rel=1e-5)
