"""From cells to a ranker: what may be used, what is learned, what comes back from a checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.world import make_world
from thesis_rec.base.errors import ItemError, NothingSucceeded
from thesis_rec.base.tables import TaskTokens
from thesis_rec.catalog.validators import validate_checkpoint
from thesis_rec.knowledge.quadrants import Split, assign_splits, parents_of
from thesis_rec.thesis.losses import weighted_tau
from thesis_rec.thesis.ranker import Inputs, Ranker
from thesis_rec.thesis.similarity_training import FLOOR, RankerModule, assemble, standardise, tensor_table, train_ranker
from thesis_rec.thesis.similarity_transformer import SimilarityTransformer
from thesis_rec.training.settings import FitSettings, RankerLosses, RankerTraining
from thesis_rec.truth.performance_records import clean_performance


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
    return assemble(world.models, world.tokens, cells, splits)


@pytest.fixture(scope="module")
def trained(material, tmp_path_factory):
    return train_ranker(
        material,
        {"width": 32, "n_layers": 1, "n_heads": 2, "rank": 4},
        RankerTraining(models_per_step=16, tasks_per_epoch=64),
        FitSettings(epochs=10, batch_size=8, learning_rate=4e-3, accelerator="cpu"),
        tmp_path_factory.mktemp("runs"),
    )


class TestMaterial:
    def test_nothing_unknown_enters(self, world, material):
        assert not any(family in world.sides["model_families"] for family in material.known.families)
        domain = dict(zip(world.dataset_manifest["dataset_id"], world.dataset_manifest["domain"], strict=True))
        parents = parents_of(world.dataset_manifest)
        for tasks in (material.training, material.validation):
            assert tasks.tasks
            for task in tasks.tasks:
                assert not any(domain[name] in world.sides["dataset_families"] for name in parents[task.dataset_id])

    def test_withheld_cells_are_missing(self, material, splits):
        split = Split.of(splits)
        row = {task.dataset_id: i for i, task in enumerate(material.training.tasks)}
        column = {model: i for i, model in enumerate(material.known.model_ids)}
        withheld = [(row[d], column[m]) for m, d in split.cells if d in row]
        assert len(withheld) > 10
        assert all(np.isnan(material.training.value[cell]) for cell in withheld)

    def test_nothing_to_train_on_says_what_is_missing(self, world, cells, splits):
        with pytest.raises(NothingSucceeded, match="0 of them with tokens"):
            assemble(world.models, {}, cells, splits)


class TestInputs:
    def test_what_is_read_is_standardised_on_what_is_known(self, material):
        inputs = Inputs.fit(material.known, material.training.tasks)
        found = inputs.of_models(material.known)
        assert found.shape == (len(material.known), material.known.embedding.shape[1] + 1)
        np.testing.assert_allclose(found.mean(0), 0.0, atol=0.1)
        np.testing.assert_allclose(found.std(0), 1.0, atol=0.15)

    def test_what_is_not_known_of_a_model_is_average(self, material):
        inputs = Inputs.fit(material.known, material.training.tasks)
        lacking = replace(material.known, embedding=np.full_like(material.known.embedding, np.nan))
        assert (inputs.of_models(lacking)[:, :-1] == 0).all()

    def test_classes_beyond_the_limit_are_left_out_evenly(self, material):
        task = max(material.training.tasks, key=lambda item: len(item.class_names))
        whole = Inputs.fit(material.known, material.training.tasks).of_task(task)
        few = Inputs.fit(material.known, material.training.tasks, max_tokens=2)
        assert len(whole) == len(task.class_names)
        assert few.of_task(task).shape == (2, whole.shape[1])


def test_tables_mask_what_is_not_there(material):
    inputs = Inputs.fit(material.known, material.training.tasks)
    columns = tensor_table(inputs, material.training).columns
    assert torch.equal(columns["measured"], torch.from_numpy(np.isfinite(material.training.value)))
    assert columns["token_mask"].sum(1).tolist() == [len(task.class_names) for task in material.training.tasks]
    assert all(column.float().isfinite().all() for column in columns.values())


def test_standardised_cells_have_unit_spread_unless_differences_are_noise():
    values = np.array([[0.2, 0.4, 0.6, np.nan], [0.5, 0.5, 0.5 + 1e-4, 0.5]])
    found = standardise(values)
    np.testing.assert_allclose(found[0, :3], [-np.sqrt(1.5), 0, np.sqrt(1.5)], atol=1e-12)
    assert found[0, 3] == 0
    assert np.abs(found[1]).max() < 1e-4 / FLOOR


def test_training_orders_models_better_than_chance_where_nothing_was_seen(material, trained):
    ranker, history = trained
    assert len(history) == 10
    score = np.stack([p.score for p in ranker.predict(material.known, material.validation.tasks)])
    value = material.validation.value
    mask = np.isfinite(value)
    tau = weighted_tau(*(torch.from_numpy(x) for x in (score, np.where(mask, value, 0.0), mask)))
    assert tau.nanmean() > 0.25


class TestRanker:
    def test_predictions_are_what_they_promise(self, world, trained):
        tasks = list(world.tokens.values())[:20]
        many = trained[0].predict(world.models, tasks)
        assert len(many) == 20
        for found in many:
            assert found.model_ids == world.models.model_ids
            assert ((found.value >= 0) & (found.value <= 1)).all()
            assert (found.std > 0).all()
        (single,) = trained[0].predict(world.models, tasks[17:18])
        np.testing.assert_allclose(many[17].value, single.value, atol=1e-5)

    def test_a_checkpoint_predicts_the_same(self, world, trained, tmp_path):
        checkpoint = trained[0].to_checkpoint()
        validate_checkpoint(checkpoint)
        torch.save(checkpoint, tmp_path / "ranker.pt")
        again = Ranker.from_checkpoint(torch.load(tmp_path / "ranker.pt", weights_only=True))
        task = next(iter(world.tokens.values()))
        one, other = (ranker.predict(world.models, [task])[0] for ranker in (trained[0], again))
        for part in ("score", "value", "std"):
            np.testing.assert_allclose(getattr(one, part), getattr(other, part), rtol=1e-4, atol=1e-5)

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


def test_terms_without_weight_are_not_computed(material):
    inputs = Inputs.fit(material.known, material.training.tasks)
    table = tensor_table(inputs, material.training)
    features = torch.from_numpy(inputs.of_models(material.known))
    network = SimilarityTransformer(features.shape[1], inputs.tokens.shape[1], width=16)
    options = RankerTraining(losses=RankerLosses(listwise=0, pairwise=0, value=0, regression=2))
    module = RankerModule(network.eval(), FitSettings(), options, features)
    batch = table.__getitems__(list(range(8)))
    training = module.losses(batch, training=True)
    assert set(training) == {"loss", "regression"}
    assert training["loss"].item() == pytest.approx(2 * training["regression"].item())
    # Before any step all models are alike, so that the error is the spread of the truth.
    found = module.losses(batch, training=False)
    errors = [(t[m] ** 2).mean() for t, m in zip(batch["standardised"], batch["measured"], strict=True)]
    assert found["regression"].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)
    assert found["tau"].item() == 0.0
