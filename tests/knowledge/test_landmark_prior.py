"""The prior in closed form: against scikit-learn, against leaving out by hand, and where it should help."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import weightedtau
from sklearn.kernel_ridge import KernelRidge

from tests.world import make_world
from thesis_rec.base.tables import ModelTable
from thesis_rec.knowledge.kernels import Kernel, leave_groups_out
from thesis_rec.knowledge.landmark_prior import SMOOTH_SHARE, LandmarkPrior
from thesis_rec.knowledge.prior_fitting import (
    error_covariance,
    error_moment,
    fit_dataset_side,
    fit_error_side,
    fit_model_side,
)
from thesis_rec.knowledge.quadrants import Split, assign_splits
from thesis_rec.knowledge.static_prior import standardise
from thesis_rec.thesis.similarity_training import assemble
from thesis_rec.thesis.training_set import fit_prior
from thesis_rec.truth.performance_records import clean_performance


@pytest.fixture(scope="module")
def world():
    return make_world(n_families=6, per_family=6, n_domains=12, per_domain=4, unknown_domains=2, landmarks=True)


@pytest.fixture(scope="module")
def material(world):
    cells = clean_performance([world.records])
    families = dict(zip(world.models.model_ids, world.models.families, strict=True))
    splits = assign_splits(cells, families, world.dataset_manifest, world.sides)
    return assemble(world.models, world.tokens, cells, splits, world.dataset_manifest), splits, cells


@pytest.fixture(scope="module")
def fitted(material):
    known, training = material[0].known, material[0].training
    return fit_prior(known, training, standardise(training.value, training.measured))


def truth_of(cells, world, dataset):
    table = cells.pivot_table(index="dataset_id", columns="model_id", values="value")
    return table.loc[dataset, world.models.model_ids].to_numpy()


def test_the_kernel_is_scikit_learns():
    rng = np.random.default_rng(0)
    rows, other = rng.normal(size=(20, 5)) * [1, 2, 3, 4, 5] + 7, rng.normal(size=(4, 5))
    kernel = Kernel.fit(rows, 2.0)
    target = rng.normal(size=(20, 3))
    ours = kernel(other) @ np.linalg.solve(kernel.gram + 0.3 * np.eye(20), target)
    standard = (rows - rows.mean(0)) / rows.std(0)
    reference = KernelRidge(alpha=0.3, kernel="rbf", gamma=1 / kernel.width).fit(standard, target)
    np.testing.assert_allclose(ours, reference.predict((other - rows.mean(0)) / rows.std(0)), atol=1e-8)
    np.testing.assert_allclose(kernel(rows), kernel.gram, atol=1e-12)


def test_leaving_groups_out_is_fitting_without_them():
    rng = np.random.default_rng(1)
    points, target = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
    groups = np.repeat(list("abc"), 4)
    gram = Kernel.fit(points).gram
    found = leave_groups_out(gram, target, groups, 0.2, centre=True)
    rest = groups != "b"
    mean = target[rest].mean(0)
    by_hand = mean + gram[np.ix_(~rest, rest)] @ np.linalg.solve(
        gram[np.ix_(rest, rest)] + 0.2 * np.eye(8), target[rest] - mean
    )
    np.testing.assert_allclose(found[~rest], by_hand)


def test_what_is_left_out_has_no_influence(world):
    rng = np.random.default_rng(2)
    points, values = rng.normal(size=(24, 4)), rng.normal(size=(24, 5))
    families = [f"f{i // 4}" for i in range(24)]
    measured = np.ones((24, 5), bool)
    _, left_out, one_out = fit_dataset_side(points, values, measured, families)
    changed = values.copy()
    changed[:4] += 100.0
    _, again, _ = fit_dataset_side(points, changed, measured, families)
    # The choice of width and penalty may differ, so that only a regression that is switched off is the same to the bit.
    assert np.abs(again[:4] - left_out[:4]).max() < 5
    assert np.abs(again[4:] - left_out[4:]).max() > 1
    assert one_out.shape == left_out.shape


def test_noise_is_left_to_the_mean():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(40, 6))
    side, left_out, _ = fit_dataset_side(
        rng.normal(size=(40, 4)), values, np.ones((40, 6), bool), [f"f{i % 8}" for i in range(40)]
    )
    # Nothing carries over: at most a heavily shrunk regression is kept.
    assert side is None or np.abs(left_out).mean() < 0.35


def test_it_beats_the_static_prior_on_unknown_datasets_and_models(world, material, fitted):
    prior, _, _ = fitted
    _, splits, cells = material
    split = Split.of(splits)
    known = split.known_models(world.models.model_ids)
    gains = {True: [], False: []}
    for dataset in split.with_role(world.tokens, "test"):
        if not dataset.startswith("domain"):
            continue
        truth = truth_of(cells, world, dataset)
        ours = prior(world.models, [world.tokens[dataset]])[0]
        static = prior.static(world.models.model_ids, world.models.families)
        for side in (True, False):
            rows = known == side
            spread = static[rows].std() > 0
            before = weightedtau(truth[rows], static[rows]).statistic if spread else 0.0
            gains[side].append(weightedtau(truth[rows], ours[rows]).statistic - before)
    assert np.mean(gains[True]) > 0.1
    assert np.mean(gains[False]) > 0.15


def test_known_models_hidden_are_predicted_without_their_family(world, material, fitted):
    prior = fitted[0]
    known = material[0].known
    weights, has = prior.weights(known, hidden=True)
    families = np.asarray(known.families)
    assert has.all()
    assert np.abs(weights[families[:, None] == families[None, :]]).max() < 1e-12
    task = [next(iter(world.tokens.values()))]
    assert not np.allclose(prior(known, task), prior(known, task, hidden=True))


def test_without_landmarks_and_probes_it_is_static(world, fitted):
    prior = fitted[0]
    bare = [replace(task, landmarks=None) for task in list(world.tokens.values())[:3]]
    known = [m for m in world.models.model_ids if m in prior.measured]
    rows = [world.models.model_ids.index(m) for m in known]
    found = prior(replace(world.models, reference=None), bare)
    np.testing.assert_allclose(found, np.tile(prior.static(world.models.model_ids, world.models.families), (3, 1)))
    np.testing.assert_allclose(found[0, rows], [prior.static.models[m] for m in known])


def _similar_pairs(seed=5, pairs=20, tasks=400, width=40):
    """Models in pairs whose responses are the same but for a little, and errors that each pair has in common."""
    rng = np.random.default_rng(seed)
    described = np.repeat(rng.normal(size=(pairs, width)), 2, axis=0)
    responses = (described + 0.01 * rng.normal(size=described.shape)).astype(np.float32)
    ids = [f"m{i}" for i in range(2 * pairs)]
    families = [f"f{i % 4}" for i in range(2 * pairs)]
    probes = responses[:, : width // 2]
    models = ModelTable(ids, np.zeros((len(ids), 2)), families, np.ones(len(ids)), responses, probes)
    errors = np.repeat(rng.normal(size=(tasks, pairs)), 2, axis=1) * 0.6**0.5
    errors += 0.4**0.5 * rng.normal(size=errors.shape)
    return models, errors


def test_errors_of_models_that_are_alike_go_together():
    models, errors = _similar_pairs()
    found = fit_error_side(models, error_moment(errors, np.ones(len(errors))))(models)
    twins = found[np.arange(0, 40, 2), np.arange(1, 40, 2)]
    np.testing.assert_allclose(twins, 0.6, atol=0.1)
    np.testing.assert_allclose(np.diagonal(found), 1.0, atol=0.05)
    strangers = found[~np.kron(np.eye(20, dtype=bool), np.ones((2, 2), dtype=bool))]
    assert np.abs(strangers).mean() < 0.1
    assert np.linalg.eigvalsh(found).min() > 0


def test_responses_join_the_reference_probes_where_they_tell_more():
    models, _ = _similar_pairs(width=6)
    rng = np.random.default_rng(6)
    values = (models.responses[:, 3:] @ rng.normal(size=(3, 30))).T  # what the first three, the probes, don't know
    side = fit_model_side(models, values)
    assert side.kernel.parts["responses"][1] > 0
    alone = fit_model_side(replace(models, responses=None), values)
    assert set(alone.kernel.parts) == {"reference"}
    assert side.variance < alone.variance
    assert not side.kernel.answered(replace(models, responses=None)).any()


def test_probes_on_subtasks_take_the_place_of_those_on_reference_tasks_where_all_models_have_them():
    models, errors = _similar_pairs(width=6)
    rng = np.random.default_rng(6)
    values = (models.responses[:, 3:] @ rng.normal(size=(3, 30))).T  # what the first three, the probes, don't know
    probed = replace(models, subtasks=models.responses)
    side = fit_model_side(probed, values)
    assert "subtasks" in side.kernel.parts
    assert "reference" not in side.kernel.parts
    assert side.variance < fit_model_side(replace(models, responses=None), values).variance
    assert "subtasks" in fit_error_side(probed, error_moment(errors, np.ones(len(errors)))).kernel.parts
    assert not side.kernel.answered(models).any()
    gap = models.responses.copy()
    gap[0] = np.nan
    assert "reference" in fit_model_side(replace(models, subtasks=gap), values).kernel.parts


def test_a_state_of_format_2_is_read(world, fitted):
    state = fitted[0].state()
    state["models"]["kernel"] = {k: v for k, v in state["models"]["kernel"]["reference"].items() if k != "weight"}
    del state["alike"]
    old = LandmarkPrior.from_state(state)
    assert set(old.models.kernel.parts) == {"reference"}
    assert old.alike is None
    known = [i for i, model in enumerate(world.models.model_ids) if model in old.measured]
    np.testing.assert_allclose(old.errors(world.models)[np.ix_(known, known)], old.covariance, atol=1e-6)


def test_state_gives_the_same_prior_back(world, fitted):
    again = LandmarkPrior.from_state(fitted[0].state())
    tasks = list(world.tokens.values())[:4]
    np.testing.assert_allclose(again(world.models, tasks), fitted[0](world.models, tasks), atol=1e-3)
    np.testing.assert_allclose(again.errors(world.models), fitted[0].errors(world.models), atol=1e-3)


def test_errors_are_a_covariance_and_larger_for_models_never_measured(world, fitted):
    prior = fitted[0]
    errors = prior.errors(world.models)
    assert np.linalg.eigvalsh((errors + errors.T) / 2).min() > -1e-6
    known = np.array([model in prior.measured for model in world.models.model_ids])
    assert np.diagonal(errors)[~known].mean() > np.diagonal(errors)[known].mean()
    within = errors[np.ix_(known, known)]
    alike = prior.alike(world.models)[np.ix_(known, known)]
    np.testing.assert_allclose(within, (1 - SMOOTH_SHARE) * prior.covariance + SMOOTH_SHARE * alike, atol=1e-9)
    np.testing.assert_allclose(prior.variances(world.models), np.diagonal(errors), atol=1e-6)


def test_levels_of_unknown_datasets_err_as_they_say(world, material, fitted):
    levels = fitted[0].levels
    _, splits, cells = material
    unknown = [d for d in Split.of(splits).with_role(world.tokens, "test") if d.startswith("domain")]
    level, spread = levels([world.tokens[d] for d in unknown])
    truth = np.array([truth_of(cells, world, d)[: len(material[0].known)] for d in unknown])
    assert np.sqrt(np.square(level - truth.mean(1)).mean()) < 3 * levels.error[0]
    assert (spread > 0).all()


def test_error_covariance_recovers_what_was_drawn():
    rng = np.random.default_rng(4)
    factor = rng.normal(size=(6, 6))
    wanted = factor @ factor.T / 6
    errors = rng.multivariate_normal(np.zeros(6), wanted, size=4000)
    errors[rng.random(errors.shape) < 0.1] = np.nan
    found = error_covariance(error_moment(errors, np.ones(4000)))
    variance = np.trace(wanted) / 6
    common = np.clip((wanted.sum() - np.trace(wanted)) / 30 / variance, 0, 0.9)
    target = variance * ((1 - common) * np.eye(6) + common)
    np.testing.assert_allclose(found, 0.6 * wanted + 0.4 * target, atol=0.12)
