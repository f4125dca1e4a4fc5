"""Baselines: what they must find in worlds with a known answer, and that nothing of the test side leaks in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_rec.base.tables import ModelTable, TaskTokens, z_scores
from thesis_rec.evaluation.baselines import (
    BASELINES,
    baseline,
    dataset_space,
    factorise,
    fill_by_family,
    mean_correlation,
    model_coordinates,
    relative_ranks,
    row_means_of_others,
    weighted_neighbours,
)
from thesis_rec.evaluation.learned_token import train
from thesis_rec.evaluation.metrics import metric_table
from thesis_rec.evaluation.study import Study
from thesis_rec.knowledge.descriptors import pool_tokens
from thesis_rec.knowledge.quadrants import Split

M, N, D = 48, 40, 12


@pytest.fixture(scope="module")
def world():
    """Values from latent traits that both the weights and the images show, noisily."""
    rng = np.random.default_rng(0)
    model_family, task_family = np.arange(M) % 8, np.arange(N) % 10
    traits = rng.normal(size=(8, 3))[model_family] * 0.5 + rng.normal(size=(M, 3))
    wants = rng.normal(size=(10, 3))[task_family] * 0.8 + 0.6 * rng.normal(size=(N, 3))
    general = 0.5 * rng.normal(size=M)
    values = 0.6 + 0.05 * (general[:, None] + traits @ wants.T) + 0.1 * rng.random(N) + 0.003 * rng.normal(size=(M, N))
    embedding = np.column_stack([traits, general]) @ rng.normal(size=(4, 30)) + 0.3 * rng.normal(size=(M, 30))
    projection = rng.normal(size=(3, D))
    tasks = []
    for j in range(N):
        classes = 3 + j % 5
        features = wants[j] @ projection + rng.normal(size=(1, classes, D)) + 0.5 * rng.normal(size=(4, classes, D))
        features /= np.linalg.norm(features, axis=-1, keepdims=True)
        names = [str(c) for c in range(classes)]
        tasks.append(TaskTokens(f"d{j}", features.astype(np.float32), names, 50 * classes))
    models = ModelTable(
        [f"m{i}" for i in range(M)],
        embedding.astype(np.float32),
        [f"f{i}" for i in model_family],
        np.exp(rng.normal(12, 1, size=M)),
        rng.normal(size=(M, 5)).astype(np.float32),
    )
    return models, tasks, np.clip(values, 0, 1), [f"t{i}" for i in task_family]


def learn_from(models, known, tasks, values, families):
    """What baselines see of training datasets."""
    split = Split(known, np.full(len(tasks), "train"), np.full(values.shape, ""))
    return Study(models, tasks, values, split, families, [""] * len(tasks)).training()


def training_of(world, unknown=(0,), new=(0, 1)):
    models, tasks, values, families = world
    known = ~np.isin(np.arange(M) % 8, unknown)
    columns = [j for j in range(N) if j % 10 not in new]
    held = np.random.default_rng(1).random(values.shape) < 0.1
    measured = np.where(held, np.nan, values)[:, columns]
    training = learn_from(models, known, [tasks[j] for j in columns], measured, [families[j] for j in columns])
    return training, columns, [j for j in range(N) if j not in columns]


@pytest.fixture(scope="module")
def fitted(world):
    training, columns, new = training_of(world)
    return {name: baseline(name)(training) for name in BASELINES}, training, columns, new


def tau(values, scores, rows, columns):
    return np.mean([metric_table(values[rows, j], scores[rows, i])["weighted_tau"] for i, j in enumerate(columns)])


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_ranks_every_model_or_says_why_not(fitted, world, name):
    baselines, training, _, new = fitted
    scores = baselines[name]([world[1][j] for j in new])
    assert scores.shape == (M, len(new))
    assert np.isfinite(scores[training.known]).all()
    unknown = scores[~training.known]
    assert np.isnan(unknown).all() if name == "learned_token" else np.isfinite(unknown).all()
    alone = baselines[name]([world[1][new[0]]])
    assert alone == pytest.approx(scores[:, :1], nan_ok=True, abs=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_fitting_twice_gives_the_same(world, fitted, name):
    baselines, training, _, new = fitted
    again = baseline(name)(training)([world[1][new[0]]])
    assert again == pytest.approx(baselines[name]([world[1][new[0]]]), nan_ok=True)


def test_methods_that_see_images_beat_the_prior_on_new_datasets(fitted, world):
    baselines, training, _, new = fitted
    _, tasks, values, _ = world
    quality = {name: tau(values, baselines[name]([tasks[j] for j in new]), training.known, new) for name in BASELINES}
    assert abs(quality["random"]) < 0.15
    for name in ("nearest_dataset", "ridge", "kernel_ridge", "boosted_trees"):
        assert quality[name] > quality["static_mean_z"] + 0.05, name
    assert quality["learned_token"] > quality["static_mean_z"]


def test_methods_that_see_weights_rank_unknown_models(fitted, world):
    baselines, training, _, new = fitted
    _, tasks, values, _ = world
    for name in ("ridge", "kernel_ridge"):
        assert tau(values, baselines[name]([tasks[j] for j in new]), ~training.known, new) > 0.3, name
    assert abs(tau(values, baselines["static_mean_z"]([tasks[j] for j in new]), ~training.known, new)) < 0.1


def test_factorisation_fills_withheld_cells(fitted, world):
    baselines, training, columns, _ = fitted
    _, tasks, values, _ = world
    scores = baselines["matrix_factorisation"]([tasks[j] for j in columns])
    withheld = np.isnan(training.values) & training.known[:, None]
    truth = np.where(withheld, values[:, columns], np.nan)
    static = baselines["static_mean_z"]([tasks[j] for j in columns])
    assert mean_correlation(scores, truth) > mean_correlation(static, truth) + 0.1


@pytest.mark.parametrize("name", [n for n in BASELINES if n != "learned_token"])
def test_withheld_values_are_never_read(world, name):
    """Poisoning every withheld value must change nothing: the training set is all a baseline sees."""
    training, _, new = training_of(world)
    task = world[1][new[0]]
    before = baseline(name)(training)([task])[:, 0]
    models, tasks, values, families = world
    poisoned = np.where(np.isnan(_full(training, values)), 1 - values, values)
    after = baseline(name)(training_of((models, tasks, poisoned, families))[0])([task])[:, 0]
    assert after == pytest.approx(before)


def _full(training, values):
    full = np.full_like(values, np.nan)
    for i, dataset in enumerate(training.dataset_ids):
        full[:, int(dataset[1:])] = training.values[:, i]
    return full


def test_static_priors_by_hand():
    values = np.array([[0.9, 0.5, np.nan], [0.7, 0.7, 0.4], [0.5, 0.9, 0.6], [np.nan] * 3])
    models = ModelTable(list("abcd"), np.zeros((4, 2), np.float32), ["x", "x", "y", "x"], np.array([1, 10, 100, 1000]))
    *tasks, task = (TaskTokens(name, np.ones((1, 2, 2), np.float32), ["0", "1"], 2) for name in ("p", "q", "r", "new"))
    training = learn_from(models, np.array([True, True, True, False]), tasks, values, list("pqr"))
    accuracy = baseline("static_mean_accuracy")(training)([task])[:, 0]
    # Distances from the datasets' means .7, .7 and .5, plus the mean of these.
    assert accuracy == pytest.approx(np.array([0.0, -0.1 / 3, 0.1 / 3, -0.05 / 3]) + 1.9 / 3)
    rank = baseline("static_mean_rank")(training)([task])[:, 0]
    assert rank == pytest.approx([0.5, 1 / 3, 2 / 3, 5 / 12])
    z = baseline("static_mean_z")(training)([task])[:, 0]
    assert z[0] == pytest.approx(0.0, abs=1e-12)
    assert z[2] == pytest.approx(np.mean([-np.sqrt(1.5), np.sqrt(1.5), 1.0]))
    assert np.argsort(baseline("parameter_count")(training)([task])[:, 0]).tolist() == [0, 1, 2, 3]


def test_names_are_complete():
    with pytest.raises(ValueError, match="unknown baseline"):
        baseline("oracle")


@settings(max_examples=30)
@given(st.integers(0, 9999), st.integers(2, 8), st.integers(1, 6))
def test_z_scores_and_ranks_ignore_scale(seed, rows, columns):
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((rows, columns)) < 0.3, np.nan, rng.random((rows, columns)))
    for function in (z_scores, relative_ranks):
        one, other = function(values), function(values * 7 - 3)
        assert one == pytest.approx(other, nan_ok=True, abs=1e-6)
        assert (np.isnan(one) == np.isnan(values)).all()
    z = z_scores(values)
    for column in z.T:
        present = column[np.isfinite(column)]
        if len(present):
            assert present.mean() == pytest.approx(0, abs=1e-9)


def test_family_filling_by_hand():
    scores = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan], [np.nan, np.nan], [8.0, np.nan]])
    filled = fill_by_family(scores, ["x", "x", "x", "z", "y"])
    assert filled[:, 0].tolist() == [1, 3, 2, 4, 8]
    assert np.isnan(filled[:, 1]).all()


def test_neighbours_by_hand():
    z = np.array([[1.0, 0.0, -1.0], [np.nan, 2.0, 5.0]])
    one = weighted_neighbours(z, np.array([[0.1, 0.5, 0.9]]), 1)
    assert one[0, 0] == pytest.approx(1.0, abs=1e-6)
    # The nearest has no value for the second model: the next ones decide, the nearer a little more.
    assert 2.0 < one[1, 0] < 3.5
    alone = weighted_neighbours(z, np.array([[0.1, np.inf, np.inf]]), 3)
    assert alone[0, 0] == pytest.approx(1.0)
    assert np.isnan(alone[1, 0])


def test_factorisation_recovers_a_low_rank_matrix():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(30, 1)) + rng.normal(size=(30, 2)) @ rng.normal(size=(2, 25))
    hidden = rng.random(truth.shape) < 0.2
    fitted, unseen = factorise(np.where(hidden, np.nan, truth), 2, 0.01, seed=1, rounds=50)
    assert np.corrcoef(fitted[hidden], truth[hidden])[0, 1] > 0.98
    assert unseen.shape == (30,)
    effects, _ = factorise(truth, 0, 1.0, seed=1)
    assert effects[:, 0] == pytest.approx(truth.mean(axis=1))


def test_prior_without_family_by_hand():
    z = np.array([[1.0, 2.0, 6.0], [np.nan, 4.0, np.nan]])
    means = row_means_of_others(z, np.array(["p", "p", "q"]))
    np.testing.assert_array_equal(means, [[6.0, 6.0, 1.5], [np.nan, np.nan, 4.0]])


def test_pooled_tokens_are_invariant_and_finite():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4, 6, D))
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    task = TaskTokens("a", features, [str(i) for i in range(6)], 100)
    mixed = TaskTokens("b", features[rng.permutation(4)][:, rng.permutation(6)], task.class_names, 100)
    for one, other in zip(pool_tokens(task), pool_tokens(mixed), strict=True):
        assert one == pytest.approx(other)
    for shape in ((1, 3, D), (3, 1, D), (1, 1, D)):
        small = TaskTokens("c", np.ones(shape) / np.sqrt(D), ["x"] * shape[1], 0)
        assert all(np.isfinite(part).all() for part in pool_tokens(small))
    assert np.isfinite(dataset_space([task])([task, mixed])).all()


def test_separable_classes_are_recognised():
    centres = np.eye(5, D)[None]
    task = TaskTokens("a", np.repeat(centres, 3, axis=0), [str(i) for i in range(5)], 10)
    assert pool_tokens(task)[3][2] == 1.0


def test_unknown_models_do_not_move_the_coordinates_of_known_ones(world):
    models = world[0]
    known = np.arange(M) < 40
    full = model_coordinates(models, known)
    assert full[known] == pytest.approx(model_coordinates(models.select(range(40)), np.ones(40, bool)))
    assert np.isfinite(full).all()


def test_many_classes_are_sampled_in_training(world):
    rng = np.random.default_rng(0)
    models, _, values, _ = world
    tasks = [TaskTokens(f"d{j}", rng.normal(size=(2, 9, D)), ["c"] * 9, 9) for j in range(4)]
    training = learn_from(models, np.ones(M, bool), tasks, values[:, :4], list("abcd"))
    scores = train(training, epochs=2, max_classes=4)(tasks)
    assert np.isfinite(scores).all()
