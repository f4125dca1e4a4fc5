"""Features against explicit loops, and what must not leak into them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.world import make_world
from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.thesis.features import (
    CLIP,
    FeatureSettings,
    ModelFeatures,
    TokenFeatures,
    Whitening,
    class_statistics,
    performance_factors,
    task_statistics,
)

WORLD = make_world()


class TestWhitening:
    def test_components_are_uncorrelated_with_unit_variance(self):
        rows = np.random.default_rng(0).normal(size=(300, 6)) @ np.random.default_rng(1).normal(size=(6, 6))
        white = Whitening.fit(rows, 6)(rows)
        np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(6), atol=0.06)  # clipping takes a little

    def test_there_are_no_more_components_than_rows_can_tell(self):
        rows = np.random.default_rng(0).normal(size=(5, 9))
        white = Whitening.fit(rows, 8)(rows)
        assert white.shape == (5, 8)
        assert (white[:, 4:] == 0).all()
        assert np.isfinite(white).all()

    def test_outliers_are_clipped_and_missing_rows_are_the_mean(self):
        rows = np.random.default_rng(0).normal(size=(50, 3))
        whitening = Whitening.fit(rows, 3)
        assert np.abs(whitening(rows * 1e6)).max() == CLIP
        assert (whitening(np.full((2, 3), np.nan)) == 0).all()

    def test_constant_rows_say_nothing(self):
        assert (Whitening.fit(np.ones((4, 3)), 2)(np.ones((4, 3))) == 0).all()


class TestModelFeatures:
    def fit(self, **settings):
        factors = np.random.default_rng(0).normal(size=(len(WORLD.models), 3)).astype(np.float32)
        known = WORLD.models.select(range(18))
        return ModelFeatures.fit(known, FeatureSettings(model_components=5, **settings), factors[:18]), factors

    @pytest.mark.parametrize(("embedding", "width"), [("weights", 5), ("responses", 6), ("both", 11)])
    def test_variants_differ_in_what_they_hold(self, embedding, width):
        features, _ = self.fit(embedding=embedding)
        assert features(WORLD.models).shape == (24, width + 1 + 4)
        assert features.n_private == 4

    def test_private_columns_belong_to_known_models_alone(self):
        features, factors = self.fit()
        private = features(WORLD.models)[:, -4:]
        np.testing.assert_array_equal(private[:18, :3], factors[:18])
        assert (private[:18, 3] == 1).all()
        assert (private[18:] == 0).all()

    def test_models_without_responses_are_told_apart(self):
        features, _ = self.fit()
        without = ModelTable(
            WORLD.models.model_ids, WORLD.models.embedding, WORLD.models.families, WORLD.models.n_parameters
        )
        flag = 10
        assert (features(WORLD.models)[:, flag] == 1).all()
        assert (features(without)[:, flag] == 0).all()
        assert (features(without)[:, 5:10] == 0).all()

    def test_the_state_restores_everything(self):
        features, _ = self.fit()
        again = ModelFeatures.from_state(features.state())
        np.testing.assert_array_equal(again(WORLD.models), features(WORLD.models))


def tokens(seed: int, batches: int = 4, classes: int = 3, dim: int = 6) -> TaskTokens:
    features = np.random.default_rng(seed).normal(size=(batches, classes, dim))
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    return TaskTokens("task", features.astype(np.float32), [f"c{c}" for c in range(classes)], 500, "encoder")


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(2, 5), st.integers(2, 5))
def test_class_statistics_are_those_of_explicit_loops(seed, batches, classes):
    features = tokens(seed, batches, classes).features.astype(np.float64)
    means, found = class_statistics(features)
    np.testing.assert_allclose(means, features.mean(0), atol=1e-6)
    for c in range(classes):
        spread = np.sqrt(np.mean([np.sum((features[b, c] - means[c]) ** 2) for b in range(batches)]))
        nearest = min(np.linalg.norm(means[c] - means[o]) for o in range(classes) if o != c)
        right, margins = [], []
        for b in range(batches):
            own_mean = np.delete(features[:, c], b, axis=0).mean(0)
            own = np.linalg.norm(features[b, c] - own_mean)
            other = min(np.linalg.norm(features[b, c] - means[o]) for o in range(classes) if o != c)
            right.append(own < other)
            margins.append(other - own)
        np.testing.assert_allclose(found[c], [spread, nearest, np.mean(right), np.mean(margins)], atol=1e-4)


def test_statistics_exist_for_a_single_batch_or_class():
    for shape in ((1, 3), (3, 1), (1, 1)):
        task = tokens(0, *shape)
        assert np.isfinite(class_statistics(task.features)[1]).all()
        assert np.isfinite(task_statistics(task)).all()


def test_an_easy_dataset_looks_easy():
    easy = np.repeat(np.eye(3, 6)[None], 4, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(4, 3, 6))
    easy = TaskTokens("easy", easy.astype(np.float32), list("abc"), 500)
    hard = tokens(0)
    assert task_statistics(easy)[5] == 1.0 > task_statistics(hard)[5]
    assert task_statistics(easy)[2] > task_statistics(hard)[2]


class TestTokenFeatures:
    TASKS = list(WORLD.tokens.values())

    @pytest.mark.parametrize(
        ("pooling", "count"), [("class_means", lambda t: 1), ("all", lambda t: 4), ("statistics", lambda t: 1)]
    )
    def test_the_number_of_tokens(self, pooling, count):
        features = TokenFeatures.fit(self.TASKS, FeatureSettings(pooling=pooling))
        task = self.TASKS[0]
        extra = 2 if pooling == "statistics" else 0
        expected = len(task.class_names) * count(task) + extra
        assert features(task).shape == (expected, features.width)

    def test_training_tokens_are_standardised_by_kind(self):
        features = TokenFeatures.fit(self.TASKS, FeatureSettings())
        rows = np.concatenate([features(task) for task in self.TASKS])
        for kind in range(3):
            of_kind = rows[rows[:, -3 + kind] == 1]
            assert np.abs(of_kind.mean(0)[:-3]).max() < 0.1
            assert of_kind.std(0)[:16].mean() == pytest.approx(1.0, abs=0.1)

    def test_too_many_tokens_are_thinned(self):
        features = TokenFeatures.fit(self.TASKS, FeatureSettings(max_tokens=2))
        assert all(len(features(task)) == 4 for task in self.TASKS)

    def test_the_order_of_batches_does_not_matter(self):
        features = TokenFeatures.fit(self.TASKS, FeatureSettings())
        task = self.TASKS[3]
        flipped = TaskTokens(task.dataset_id, task.features[::-1], task.class_names, task.n_images, task.encoder_id)
        np.testing.assert_allclose(features(task), features(flipped), atol=1e-4)

    def test_the_state_restores_everything(self):
        features = TokenFeatures.fit(self.TASKS, FeatureSettings())
        again = TokenFeatures.from_state(features.state())
        np.testing.assert_array_equal(again(self.TASKS[0]), features(self.TASKS[0]))
        assert again.encoder_id == "encoder"


class TestFactors:
    def test_a_table_of_low_rank_is_spanned_by_its_factors(self):
        rng = np.random.default_rng(0)
        table = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 12))
        measured = np.ones(table.shape, dtype=bool)
        factors = performance_factors(table, measured, 2)
        assert factors.shape == (12, 2)
        residual = table.T - factors @ np.linalg.lstsq(factors, table.T, rcond=None)[0]
        assert np.abs(residual).max() < 1e-5

    def test_missing_cells_are_filled_by_the_factors(self):
        rng = np.random.default_rng(0)
        table = rng.normal(size=(60, 1)) @ rng.normal(size=(1, 12))
        measured = rng.random(table.shape) > 0.2
        found = performance_factors(np.where(measured, table, 0.0), measured, 1)[:, 0]
        naive = performance_factors(np.where(measured, table, 0.0), np.ones_like(measured), 1)[:, 0]
        truth = performance_factors(table, np.ones_like(measured), 1)[:, 0]
        error = [min(np.abs(truth - sign * f).max() for sign in (1, -1)) for f in (found, naive)]
        assert error[0] < error[1]

    def test_none_are_asked_for(self):
        assert performance_factors(np.ones((3, 2)), np.ones((3, 2), bool), 0).shape == (2, 0)


def test_states_are_readable_without_pickle(tmp_path):
    from thesis_rec.thesis.recommender import _to_numpy, _to_tensors

    features = TokenFeatures.fit(TestTokenFeatures.TASKS, FeatureSettings())
    torch.save(_to_tensors(features.state()), tmp_path / "state.pt")
    state = _to_numpy(torch.load(tmp_path / "state.pt", weights_only=True))
    np.testing.assert_array_equal(TokenFeatures.from_state(state).mean, features.mean)
