"""Learning from measured cells, and what is believed of new datasets and models."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge

from tests.knowledge.test_posterior import covariance_of
from tests.world import World, make_world
from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.files import load_arrays
from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.knowledge.covariance import fit_covariance
from thesis_rec.knowledge.descriptors import N_SCALARS, scales_of
from thesis_rec.knowledge.kernels import Kernel, leave_groups_out
from thesis_rec.knowledge.knowledge import (
    RIDGES,
    SHRINKAGE,
    WIDTHS,
    Knowledge,
    ModelSide,
    Regression,
    _by_distance,
    _choose,
    _fit_models,
    fit_knowledge,
)
from thesis_rec.knowledge.posterior import Cell, Scale


def tables(world: World) -> tuple[ModelTable, list[TaskTokens], np.ndarray, list[str]]:
    """Models, base datasets, their (N, M) performance and families."""
    info = world.dataset_manifest[world.dataset_manifest["parent"] == ""]
    wide = world.records.pivot_table(index="dataset_id", columns="model_id", values="value")
    values = wide.reindex(index=info["dataset_id"], columns=world.models.model_ids).to_numpy()
    return world.models, [world.tokens[name] for name in info["dataset_id"]], values, info["domain"].tolist()


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(n_families=6, n_domains=12, landmarks=True, subtasks=0)


@pytest.fixture(scope="module")
def knowledge(world: World) -> Knowledge:
    """Learned from all but the last three datasets, which are a family, and all but the last family of models."""
    models, tasks, values, families = tables(world)
    seen = np.array(models.families) != models.families[-1]
    return fit_knowledge(models, tasks[:-3], np.where(seen, values, np.nan)[:-3], families[:-3], noise=0.02)


def test_groups_are_left_out_as_by_fitting_without_them() -> None:
    """Against scikit-learn's kernel ridge on the other groups, with and without their mean."""
    rng = np.random.default_rng(0)
    points, target = rng.normal(size=(20, 3)), rng.normal(size=(20, 4)) + 2.0
    groups = np.repeat(np.array(["a", "b", "c", "d"]), 5)
    gram = RBF()(points)
    for centre in (False, True):
        found = leave_groups_out(gram, target, groups, 0.3, centre=centre)
        for group in "abcd":
            rest = groups != group
            mean = target[rest].mean(0) if centre else 0.0
            fitted = KernelRidge(alpha=0.3, kernel="precomputed").fit(gram[np.ix_(rest, rest)], target[rest] - mean)
            np.testing.assert_allclose(found[~rest], mean + fitted.predict(gram[np.ix_(~rest, rest)]), atol=1e-8)


def test_a_single_group_leaves_nothing() -> None:
    """What is all there is can't be predicted."""
    assert not leave_groups_out(np.eye(3), np.ones((3, 2)), np.array(["a"] * 3), 0.1, centre=True).any()


def test_blocks_count_alike_however_long() -> None:
    """Ten columns that repeat one weigh as much as that one."""
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 9, 1))
    scales = np.sqrt([*[10] * 10, 1])
    long = Kernel.fit(np.hstack([np.repeat(one, 10, axis=1), other]), 1.0, scales).gram
    np.testing.assert_allclose(long, Kernel.fit(np.hstack([one, other])).gram, atol=1e-9)


def test_new_datasets_and_models_are_ranked(world: World, knowledge: Knowledge) -> None:
    """Known and unknown models on datasets of a family that was left out, better than by their means."""
    models, tasks, values, _ = tables(world)
    static = np.nanmean(values[:-3], axis=0)
    ours, means = [], []
    for task, truth in zip(tasks[-3:], values[-3:], strict=True):
        ours.append(np.corrcoef(knowledge.posterior(models, task).value(), truth)[0, 1])
        means.append(np.corrcoef(static, truth)[0, 1])
    assert np.mean(ours) > np.mean(means)
    assert min(ours) > 0


def test_cells_correct_what_was_expected(world: World, knowledge: Knowledge) -> None:
    """Half of the models measured: the others are predicted with less error, and more surely."""
    models, tasks, values, _ = tables(world)
    before, after = [], []
    for task, truth in zip(tasks[-3:], values[-3:], strict=True):
        belief = knowledge.posterior(models, task)
        cells = [Cell(model, float(truth[i]), 0.01) for i, model in enumerate(models.model_ids) if i % 2]
        found = knowledge.posterior(models, task, cells)
        before.append(np.abs(belief.value() - truth)[::2].mean())
        after.append(np.abs(found.value() - truth)[::2].mean())
        assert (found.std <= belief.std + 1e-9).all()
    assert np.mean(after) < np.mean(before)


def test_measuring_the_most_promising_does_not_pull_everything_up(world: World, knowledge: Knowledge) -> None:
    """The five best-predicted models confirm what was expected of them: nothing else moves far."""
    models, tasks, _, _ = tables(world)
    belief = knowledge.posterior(models, tasks[-1])
    best = belief.ranking()[:5]
    expected = belief.scale.value(belief.mean)
    found = belief.given([Cell(models.model_ids[i], float(expected[i]), 0.001) for i in best])
    np.testing.assert_allclose(found.mean, belief.mean, atol=0.02)


def test_a_known_dataset_is_expected_without_its_own_cells(world: World) -> None:
    """Changing what was measured on it doesn't change what is expected of it without these cells."""
    models, tasks, values, families = tables(world)
    changed = values.copy()
    changed[0] = changed[0, ::-1]
    one, other = (fit_knowledge(models, tasks, table, families) for table in (values, changed))
    kept = replace(other, shape=one.shape.copy(), levels=one.levels.copy(), datasets=one.datasets, total=one.total)
    kept.shape[0], kept.levels[0] = other.shape[0], other.levels[0]
    for a, b in zip(one.expected(tasks[0]), kept.expected(tasks[0]), strict=True):
        np.testing.assert_allclose(a, b)
    assert not np.allclose(one.expected(tasks[1])[0], kept.expected(tasks[1])[0])


def test_intervals_are_not_as_much_wider_as_models_differ_more(
    world: World, knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen times the spread doubles the errors on the scale, while expected differences are sixteen-fold."""
    models, tasks, _, _ = tables(world)
    shape, errors = knowledge.expected(tasks[-1])[0], np.array([0.0, 0.0, 1.0])
    found = []
    for spread in (0.1, 1.6):
        monkeypatch.setattr(Knowledge, "expected", lambda *_, s=spread: (shape, np.array([0.0, np.log(s)]), errors))
        found.append(knowledge.posterior(models, tasks[-1]))
    np.testing.assert_allclose(found[1].std, 2 * found[0].std)
    np.testing.assert_allclose(found[1].mean, 16 * found[0].mean)


def test_the_less_is_known_of_the_images_the_wider(world: World, knowledge: Knowledge) -> None:
    """Landmarks, tokens alone, nothing at all, and landmarks far from all others."""
    models, tasks, _, _ = tables(world)
    task = tasks[-1]
    tokens = replace(task, landmarks=None)
    nothing = replace(tokens, features=np.zeros((0, len(task.class_names), task.features.shape[2])))
    far = replace(task, landmarks=np.linspace(-40, 60, len(task.landmarks)))
    stds = [knowledge.posterior(models, item).std.mean() for item in (task, nothing, far)]
    assert stds[0] < stds[1]
    assert stds[0] < stds[2]
    # In this world tokens alone say as much as landmarks.
    assert knowledge.posterior(models, tokens).std.mean() < 0.7 * stds[1]
    assert stds[2] == pytest.approx(stds[1], rel=0.1)


def test_errors_that_grow_with_distance_are_seen_to(world: World, knowledge: Knowledge) -> None:
    """By maximum likelihood, against scipy's minimiser; errors that don't grow get no slope."""
    rng = np.random.default_rng(0)
    far = rng.uniform(0.0, 1.0, 400)
    squares = (0.1 + 2.0 * far) * rng.normal(size=400) ** 2

    def loss(given: np.ndarray) -> float:
        variance = np.exp(given[0]) + np.exp(given[1]) * far
        return float((np.log(variance) + squares / variance).mean())

    noise, slope = _by_distance(squares, far)
    best = minimize(loss, np.log([0.5, 0.5]), method="Nelder-Mead")
    assert loss(np.log([noise, slope])) <= best.fun + 0.01
    assert slope == pytest.approx(2.0, rel=0.3)
    assert _by_distance(rng.normal(size=400) ** 2, far)[1] < 0.3
    side = knowledge.datasets[0]
    near, middle = (side.errors(np.full(3, at), knowledge.total) for at in (0.0, 0.1))
    assert (near <= middle).all()
    np.testing.assert_array_equal(
        side.errors(np.full(3, 1e9), knowledge.total) <= np.maximum(knowledge.total, near), True
    )


def test_what_images_are_of_counts_beside_what_tells_them_apart(world: World, knowledge: Knowledge) -> None:
    """Landmarks and tokens together are the view that is preferred; a dataset without either is told by the other."""
    assert knowledge.datasets[0].view == "both"
    task = world.tokens["domain11_task0"]
    other = replace(task, features=world.tokens["domain0_task0"].features, class_names=["a"] * 5)
    for changed in (other, replace(task, landmarks=-task.landmarks)):
        assert np.abs(knowledge.expected(task)[0] - knowledge.expected(changed)[0]).max() > 1e-3
    scales = scales_of("both", 6 + 3 * 4 + N_SCALARS, 4, 0.5)
    assert (1 / scales[6:] ** 2).sum() == pytest.approx(0.5 * (1 / scales[:6] ** 2).sum())


@pytest.mark.parametrize("classes", [2, 100])
def test_no_prediction_lies_below_chance(world: World, knowledge: Knowledge, classes: int) -> None:
    """However hard the dataset looks."""
    models, tasks, _, _ = tables(world)
    task = replace(
        tasks[-1],
        class_names=[str(i) for i in range(classes)],
        features=np.tile(tasks[-1].features[:, :1], (1, classes, 1)),
        landmarks=np.full(len(tasks[-1].landmarks), -0.02),
    )
    belief = knowledge.posterior(models, task)
    low, high = belief.interval()
    assert (low >= 1 / classes - 1e-9).all()
    assert (belief.value() >= low - 1e-9).all()
    assert (high <= 1).all()
    assert (belief.value() > 1 / classes).all()


def test_models_that_lack_something_are_ranked_less_surely(world: World, knowledge: Knowledge) -> None:
    """Without responses a model that was never measured follows its weights or family, and is wider."""
    models, tasks, _, _ = tables(world)
    new = np.flatnonzero(~np.isin(models.model_ids, knowledge.model_ids))
    whole = knowledge.posterior(models, tasks[-1])
    bare = replace(models, reference=None, subtasks=None)
    found = knowledge.posterior(bare, tasks[-1])
    assert np.isfinite(found.mean).all()
    assert found.std[new].mean() > whole.std[new].mean()
    old = np.setdiff1d(np.arange(len(models)), new)
    np.testing.assert_allclose(found.mean[old], whole.mean[old], atol=0.05)


def test_knowledge_is_stored_without_pickle(world: World, knowledge: Knowledge, tmp_path) -> None:
    """And says the same afterwards."""
    models, tasks, _, _ = tables(world)
    np.savez(tmp_path / "knowledge.npz", **knowledge.to_arrays())
    found = Knowledge.from_arrays(load_arrays(tmp_path / "knowledge.npz"))
    one, other = (item.posterior(models, tasks[-1]) for item in (knowledge, found))
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-3)
    np.testing.assert_allclose(one.std, other.std, atol=1e-3)
    with pytest.raises(ValueError, match="no knowledge"):
        Knowledge.from_arrays({})
    arrays = knowledge.to_arrays()
    arrays["plain"] = np.array(str(arrays["plain"]).replace('"format": 1', '"format": 99'))
    with pytest.raises(ValueError, match="format 99"):
        Knowledge.from_arrays(arrays)


def test_the_work_is_linear_in_candidates(world: World, knowledge: Knowledge) -> None:
    """Ten times as many take about ten times the memory, not a hundred; benchmarks/ranking_scale.py tells the time."""
    models, tasks, _, _ = tables(world)

    def peak(count: int) -> int:
        many = models.select(np.arange(count) % len(models))
        many = replace(many, model_ids=[f"new{i}" for i in range(count)])
        tracemalloc.start()
        try:
            knowledge.posterior(many, tasks[-1]).interval()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(40_000) < 15 * peak(4000)


def test_intervals_hold_what_they_say(world: World) -> None:
    """Nine of ten values of families of datasets that were left out lie inside."""
    models, tasks, values, families = tables(world)
    inside = []
    for family in dict.fromkeys(families):
        out = np.array([name == family for name in families])
        known = fit_knowledge(
            models, [t for t, o in zip(tasks, out, strict=True) if not o], values[~out],
            [name for name in families if name != family], noise=0.02,
        )  # fmt: skip
        for row in np.flatnonzero(out):
            low, high = known.posterior(models, tasks[row]).interval(0.9)
            truth = np.maximum(values[row], 1.0 / len(tasks[row].class_names))
            inside.append((low <= truth) & (truth <= high))
    assert 0.86 < np.mean(inside) < 0.94


def test_intervals_of_errors_with_heavy_tails_hold_nine_of_ten() -> None:
    """Of each dataset without itself, which here is its whole family, as nearly as one cell more or less allows."""
    rng = np.random.default_rng(2)
    n_tasks, n_models = 14, 40
    z = rng.normal(size=n_models) + 0.4 * rng.standard_t(2, size=(n_tasks, n_models))
    level = rng.choice([-0.3, 0.3], size=(n_tasks, 1), p=[0.2, 0.8])
    values = Scale(0.1).value(level + 0.4 * z)
    tasks = [replace(NEW_TASK, dataset_id=f"d{j}") for j in range(n_tasks)]
    models = some_models([f"m{k}" for k in range(n_models)], ["f"] * n_models, np.zeros((n_models, 3)))
    known = fit_knowledge(models, tasks, values, [task.dataset_id for task in tasks])
    low, high = (
        np.stack(ends) for ends in zip(*(known.posterior(models, t).interval(0.9) for t in tasks), strict=True)
    )
    # The very cell at the quantile lies on the end of its interval.
    inside = (low - 1e-9 <= values) & (values <= high + 1e-9)
    assert inside.sum() == pytest.approx(0.9 * values.size, abs=1.0)


def plain_knowledge(**changes: object) -> Knowledge:
    """Four models on five datasets, no view of images: expectations are means over the datasets."""
    rng = np.random.default_rng(7)
    parts: dict[str, object] = {
        "model_ids": [f"k{i}" for i in range(4)],
        "families": ["a", "a", "b", "c"],
        "dataset_ids": [f"d{i}" for i in range(5)],
        "shape": rng.normal(0.5, 1.0, size=(5, 4)),
        "levels": np.column_stack([rng.normal(size=5), rng.normal(-1.0, 0.1, size=5)]),
        "total": np.array([0.3, 0.04, 1.7]),
        "factor": rng.normal(size=(4, 2)),
        "own": rng.uniform(0.1, 0.4, 4),
    }
    return Knowledge(**{**parts, **changes})  # type: ignore[arg-type]


def some_models(names: list[str], families: list[str], points: np.ndarray) -> ModelTable:
    return ModelTable(names, points.astype(np.float32), families, np.full(len(names), 1e6))


NEW_TASK = TaskTokens("new", np.zeros((0, 10, 4), dtype=np.float32), [str(i) for i in range(10)], 100)


def test_variances_are_those_of_level_spread_shape_and_own() -> None:
    """By the formula of dense matrices: the spread turns around the middle of the models, the level is all models'."""
    knowledge = plain_knowledge()
    belief = knowledge.posterior(some_models(knowledge.model_ids, knowledge.families, np.zeros((4, 3))), NEW_TASK)
    shape, (level, log_spread) = knowledge.shape.mean(0), knowledge.levels.mean(0)
    spread, (of_level, of_spread, of_shape) = np.exp(log_spread), knowledge.total
    np.testing.assert_allclose(belief.mean, level + spread * shape)
    errors = of_shape * (knowledge.factor @ knowledge.factor.T + np.diag(knowledge.own))
    turned = np.outer(shape - shape.mean(), shape - shape.mean())
    np.testing.assert_allclose(covariance_of(belief), of_level + spread**2 * (errors + of_spread * turned))


def test_models_never_measured_follow_those_that_are_alike() -> None:
    """Deviations from the average model by scikit-learn's kernel ridge, with the error of left-out families."""
    rng = np.random.default_rng(8)
    points = rng.normal(size=(4, 3))
    kernel = Kernel.fit(points)
    side = ModelSide("embedding", np.arange(4), Regression(kernel, 0.2), 0.6)
    knowledge = plain_knowledge(models=[side])
    new = np.vstack([rng.normal(size=(2, 3)), np.full((1, 3), 1e3)])
    belief = knowledge.posterior(some_models(["x", "y", "far"], ["a", "b", "z"], new), NEW_TASK)
    shape, (level, log_spread) = knowledge.shape.mean(0), knowledge.levels.mean(0)
    fitted = KernelRidge(alpha=0.2, kernel="precomputed").fit(kernel.gram, shape - shape.mean())
    expected = shape.mean() + fitted.predict(kernel(new.astype(np.float32)))
    np.testing.assert_allclose(belief.mean, level + np.exp(log_spread) * expected, atol=1e-5)
    assert belief.mean[2] == pytest.approx(level + np.exp(log_spread) * shape.mean())
    own = np.exp(2 * log_spread) * knowledge.total[2] * (0.6 + knowledge.own.mean())
    np.testing.assert_allclose(belief.own, own)


def test_a_model_of_which_only_the_family_is_known_is_its_average() -> None:
    """As uncertain as models differ; one of no known family is the average of all."""
    knowledge = plain_knowledge()
    models = some_models(["x", "stranger"], ["a", "z"], np.zeros((2, 3)))
    belief = knowledge.posterior(models, NEW_TASK)
    shape, (level, log_spread) = knowledge.shape.mean(0), knowledge.levels.mean(0)
    expected = np.array([shape[:2].mean(), shape.mean()])
    np.testing.assert_allclose(belief.mean, level + np.exp(log_spread) * expected)
    apart = np.square(knowledge.shape - knowledge.shape.mean(1, keepdims=True)).mean() + knowledge.own.mean()
    np.testing.assert_allclose(belief.own, np.exp(2 * log_spread) * knowledge.total[2] * apart)


def test_missing_cells_do_not_change_what_the_others_say() -> None:
    """Models of which every other error is missing err together as much as those whose errors are all there."""
    rng = np.random.default_rng(2)
    errors = np.repeat(rng.normal(size=(400, 1)), 6, axis=1) + 0.3 * rng.normal(size=(400, 6))
    errors[::2, :3] = np.nan
    factor = fit_covariance(errors, shrinkage=SHRINKAGE).factor
    covariance = factor @ factor.T
    assert covariance[0, 1] == pytest.approx(covariance[4, 5], rel=0.15)
    assert covariance[0, 1] > 0.5


def test_models_that_err_together_keep_doing_so() -> None:
    """Two groups whose members have the same errors stay apart from each other; without groups there is none."""
    rng = np.random.default_rng(3)
    together = np.repeat(rng.normal(size=(120, 2)), 6, axis=1)
    known = fit_covariance(together + 0.1 * rng.normal(size=together.shape), shrinkage=SHRINKAGE)
    assert (known.own < 0.05).all()
    covariance = known.factor @ known.factor.T
    assert covariance[:6, :6].mean() > 5 * abs(covariance[:6, 6:].mean())
    alone = fit_covariance(rng.normal(size=(120, 12)), shrinkage=SHRINKAGE).factor
    assert abs((alone @ alone.T)[:6, 6:]).mean() < 0.15


def test_gaps_are_what_the_images_say_not_the_mean_of_a_model(world: World) -> None:
    """Of a model that was measured on the others alone, a left-out family's cells are filled nearer to the truth."""
    models, tasks, values, families = tables(world)
    seen = values.copy()
    gaps = np.arange(len(tasks))[:, None] % 3 == np.arange(len(models)) % 3
    seen[gaps] = np.nan
    whole, found = fit_knowledge(models, tasks, values, families), fit_knowledge(models, tasks, seen, families)
    count = (~gaps).sum(0)
    means = np.tile(np.where(gaps, 0.0, whole.shape).sum(0) / count, (len(tasks), 1))
    assert np.square(found.shape - whole.shape)[gaps].mean() < 0.8 * np.square(means - whole.shape)[gaps].mean()


def test_what_errs_alike_on_every_left_out_dataset_is_an_error() -> None:
    """Errors whose mean isn't zero are no offset that may be subtracted: the next dataset has them too."""
    rng = np.random.default_rng(0)
    errors = 0.5 * rng.normal(size=(120, 12)) + np.array([1.0, -1.0] * 6)
    known = fit_covariance(errors, shrinkage=SHRINKAGE)
    # Loadings are shrunk; without the mean a quarter of this would be left.
    assert (np.square(known.factor).sum(1) + known.own > 0.5 * np.square(errors).mean(0)).all()


def test_the_regression_that_errs_least_on_left_out_families_is_chosen() -> None:
    """By fitting each of them without each family, with scikit-learn."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(24, 2))
    target = np.column_stack([np.sin(points[:, 0]), points[:, 1]]) + 0.1 * rng.normal(size=(24, 2))
    names = np.repeat(np.array(["a", "b", "c", "d", "e", "f"]), 4)
    errors = {}
    for width in WIDTHS:
        gram = Kernel.fit(points, width, np.ones(2)).gram
        for ridge in RIDGES:
            rest = np.zeros_like(target)
            for name in set(names):
                known = names != name
                mean = target[known].mean(0)
                fitted = KernelRidge(alpha=ridge, kernel="precomputed").fit(
                    gram[np.ix_(known, known)], target[known] - mean
                )
                rest[~known] = target[~known] - mean - fitted.predict(gram[np.ix_(~known, known)])
            errors[width, ridge] = np.square(rest).sum()
    found, said = _choose(np.ones(2), points, target, names, np.ones_like(target))
    assert np.square(target - said).sum() == pytest.approx(min(errors.values()))
    least = min(errors, key=lambda pair: errors[pair])
    assert found.ridge == least[1]
    assert found.kernel.width == pytest.approx(Kernel.fit(points, least[0], np.ones(2)).width)


def test_what_all_models_have_in_common_is_no_error_of_the_regression_between_models() -> None:
    """Where weak models weren't measured the others lie below zero: that says nothing of what descriptions tell."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(24, 3))
    models = some_models([f"m{i}" for i in range(24)], [f"f{i // 4}" for i in range(24)], points)
    models = replace(models, reference=points.astype(np.float32))
    shape = np.sin(points @ rng.normal(size=(3, 30))).T  # (30, 24)
    plain, moved = _fit_models(models, shape), _fit_models(models, shape + rng.normal(size=(30, 1)))
    assert [side.own for side in moved] == pytest.approx([side.own for side in plain])
    assert [side.shape.ridge for side in moved] == [side.shape.ridge for side in plain] != []


def test_a_dataset_on_which_all_models_do_alike_has_no_order_to_learn(world: World) -> None:
    """Its differences are noise: dividing by their spread would make them as large as any."""
    models, tasks, values, families = tables(world)
    flat = values.copy()
    flat[0] = 0.8 + 1e-4 * np.random.default_rng(0).normal(size=len(models))
    found = fit_knowledge(models, tasks, flat, families)
    assert found.levels[0, 1] == pytest.approx(np.log(0.1))
    assert np.abs(found.shape[0]).max() < 0.1


def test_without_any_order_nothing_is_learned(world: World) -> None:
    """Two models on each dataset say nothing of the others."""
    models, tasks, values, families = tables(world)
    values = values.copy()
    values[:, 2:] = np.nan
    with pytest.raises(ConfigurationError, match="three measured models"):
        fit_knowledge(models, tasks, values, families)
