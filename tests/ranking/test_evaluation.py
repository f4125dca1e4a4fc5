"""The whole evaluation on a fabricated world, with recommenders whose quality is known."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tests.ranking.world import make_world
from thesis_rec.catalog.validators import validate_evaluation_metrics, validate_rankings
from thesis_rec.errors import ItemError
from thesis_rec.ranking import evaluation
from thesis_rec.ranking.data import ModelTable, Prediction, TaskTokens
from thesis_rec.ranking.error_model import shaped_values
from thesis_rec.ranking.evaluation import (
    EvaluationSettings,
    calibration,
    choose_baselines,
    compare,
    evaluate,
    figures_per_dataset,
    summarise,
)
from thesis_rec.ranking.methods import RECOMMENDER, baseline_scores
from thesis_rec.ranking.metrics import METRICS, metric_table
from thesis_rec.ranking.probing import ProbingSettings
from thesis_rec.ranking.quadrants import Split, assign_splits, quadrant_masks, training_mask
from thesis_rec.ranking.records import clean_performance
from thesis_rec.ranking.study import Scores, Study, assemble_study

FAST = ("random", "parameter_count", "static_mean_accuracy", "static_mean_z", "nearest_dataset", "matrix_factorisation")
SETTINGS = EvaluationSettings((*FAST, "kernel_ridge"), ("logme", "leep"), draws=5, bootstrap=200)


class Prophet:
    """A recommender that knows the truth up to noise of a known size."""

    selected = "cross_attention"
    #: Its errors on earlier datasets are unknown.
    inputs = SimpleNamespace(prior=SimpleNamespace(errors=lambda models: None))
    configs: dict = {}

    def __init__(self, study_values, model_ids, dataset_ids, noise=0.03, std=0.03):
        self.values = pd.DataFrame(study_values, index=model_ids, columns=dataset_ids)
        self.noise, self.std = noise, std
        self.names = ["cross_attention", "similarity_transformer", "both"]
        self.networks = {}

    def predict_many(self, models, tasks, network=None):
        found = []
        for task in tasks:
            place = self.values.columns.get_loc(task.dataset_id)
            rng = np.random.default_rng([place, len(network or "")])
            truth = self.values.loc[models.model_ids, task.dataset_id].to_numpy()
            size = self.noise * (3 if network == "similarity_transformer" else 1)
            value = truth + size * rng.normal(size=len(truth))
            found.append(Prediction(models.model_ids, value * 10, value, np.full(len(value), self.std)))
        return found


@pytest.fixture(scope="module")
def tables():
    world = make_world(n_families=6, per_family=6, n_domains=12, subtasks=6, seed=1)
    info = world.dataset_manifest.assign(group=lambda t: np.where(np.arange(len(t)) % 2, "natural", "structured"))
    cells = clean_performance([world.records])
    families = dict(zip(world.models.model_ids, world.models.families, strict=True))
    sides = {"model_families": ["family5"], "dataset_families": ["domain10", "domain11"]}
    splits = assign_splits(cells, families, info, sides)
    return world, info, cells, splits


@pytest.fixture(scope="module")
def study(tables):
    world, info, cells, splits = tables
    return assemble_study(cells, splits, world.models, world.tokens, info)


@pytest.fixture(scope="module")
def transferability(study):
    rng = np.random.default_rng(0)
    rows = [
        (model, dataset, "logme", 2.0 + 3 * study.values[i, j] + 0.1 * rng.normal(), 0.5, "fabricated")
        for i, model in enumerate(study.models.model_ids)
        for j, dataset in enumerate(study.dataset_ids)
    ]
    rows += [(m, d, "leep", v if i % 3 else np.nan, 0.1, s) for i, (m, d, _, v, _, s) in enumerate(rows)]
    return pd.DataFrame(rows, columns=["model_id", "dataset_id", "method", "value", "seconds", "source"])


@pytest.fixture(scope="module")
def prophet(study):
    return Prophet(study.values, study.models.model_ids, study.dataset_ids)


@pytest.fixture(scope="module")
def whole(study, prophet, transferability):
    return evaluate(
        study, prophet, transferability, SETTINGS, {"linear_probe": {"mean": 0.95, "low": 0.9, "high": 1.0}}
    )


def test_study_holds_base_tasks_only(study, tables):
    cells = tables[2]
    assert not any(name.startswith("subtask") for name in study.dataset_ids)
    value = cells[(cells.model_id == study.models.model_ids[3]) & (cells.dataset_id == study.dataset_ids[5])]["value"]
    assert study.values[3, 5] == pytest.approx(float(value.iloc[0]))
    assert study.spread is not None
    assert set(study.groups) == {"natural", "structured"}
    assert study.families[study.dataset_ids.index("domain3_task1")] == "domain3"


def test_max_tasks_keeps_every_role(tables):
    world, info, cells, splits = tables
    small = assemble_study(cells, splits, world.models, world.tokens, info, max_tasks=12)
    assert len(small.tasks) == 12
    assert all(len(small.columns(role)) for role in ("train", "validation", "test"))


def test_nothing_to_evaluate_is_said(tables):
    world, info, cells, splits = tables
    with pytest.raises(ItemError, match="fine_tune"):
        assemble_study(cells, splits, world.models, world.tokens, info, protocol="fine_tune")


def test_baselines_see_training_cells_only(study):
    training = study.training_set()
    mask = training_mask(study.split, study.models.model_ids, training.dataset_ids)
    assert (np.isfinite(training.values) == mask).all()
    hidden = np.asarray(study.models.families) == "family0"
    assert np.isnan(study.training_set(hidden).values[hidden]).all()


def test_document_has_the_form_of_the_contract(whole):
    validate_evaluation_metrics(whole.metrics)
    validate_rankings(whole.rankings)
    text = json.dumps(whole.metrics)
    assert "NaN" not in text
    metrics = json.loads(text)
    assert set(metrics["quadrants"]) == {"Q1", "Q2", "Q3", "Q4"}
    for quadrant in metrics["quadrants"].values():
        assert {RECOMMENDER, "cross_attention", "similarity_transformer", "ensemble", *FAST} <= set(quadrant)
        for figures in quadrant.values():
            assert set(figures) - {"coverage"} == set(METRICS)
            assert set(figures["weighted_tau"]) == {"mean", "low", "high", "n"}
    for quadrant, entry in metrics["paired"].items():
        tau = entry["weighted_tau"]
        assert tau["method"] == RECOMMENDER
        assert tau["baseline"] == metrics["chosen_baseline"][quadrant]
    assert set(metrics["groups"]) == {"natural", "structured"}
    assert metrics["noise_ceiling"]["linear_probe"]["mean"] == 0.95
    assert metrics["cost_seconds"]["logme"] == pytest.approx(0.5 * 36)


def test_the_one_who_knows_wins(whole):
    for entry in whole.metrics["quadrants"].values():
        own = entry[RECOMMENDER]["weighted_tau"]
        assert own["mean"] > 0.7
        assert own == entry["cross_attention"]["weighted_tau"]
        assert own["mean"] > entry["similarity_transformer"]["weighted_tau"]["mean"]
        assert abs(entry["random"]["weighted_tau"]["mean"]) < 0.35
    for quadrant in ("Q3", "Q4"):
        assert whole.metrics["paired"][quadrant]["weighted_tau"]["better"]
        assert whole.metrics["paired"][quadrant]["regret@1"]["mean"] < 0


def test_figures_are_those_of_the_cells(whole, study):
    masks = quadrant_masks(study.split, study.models.model_ids, study.dataset_ids)
    row = whole.figures[(whole.figures["method"] == "nearest_dataset") & (whole.figures["quadrant"] == "Q3")].iloc[0]
    j = study.dataset_ids.index(row["dataset_id"])
    rows = masks["Q3"][:, j]
    part = whole.rankings[
        (whole.rankings["method"] == "nearest_dataset")
        & (whole.rankings["quadrant"] == "Q3")
        & (whole.rankings["dataset_id"] == row["dataset_id"])
    ]
    assert sorted(part["rank"]) == list(range(1, rows.sum() + 1))
    order = part.set_index("model_id")["score"].reindex(np.array(study.models.model_ids)[rows]).to_numpy()
    expected = metric_table(study.values[rows, j], order)
    assert row["weighted_tau"] == pytest.approx(expected["weighted_tau"])
    assert row["regret@1"] == pytest.approx(expected["regret@1"])


def test_all_methods_are_judged_on_the_same_cells(whole):
    counts = whole.figures.groupby(["quadrant", "dataset_id"])["n_models"].nunique()
    assert (counts == 1).all()
    sizes = whole.rankings.groupby(["quadrant", "method"]).size()
    assert all(len(set(part)) == 1 for _, part in sizes.groupby("quadrant"))


def test_partial_methods_say_how_partial(whole):
    entry = whole.metrics["quadrants"]["Q3"]
    assert 0.5 < entry["leep"]["coverage"]["mean"] < 0.8
    assert "coverage" not in entry["logme"]


def test_evaluation_is_repeatable(study, prophet, transferability, whole):
    again = evaluate(study, prophet, transferability, SETTINGS)
    pd.testing.assert_frame_equal(again.rankings, whole.rankings)
    pd.testing.assert_frame_equal(again.figures, whole.figures)
    assert again.metrics["probing"] == whole.metrics["probing"]


def test_intervals_of_an_honest_recommender_are_calibrated(whole):
    for quadrant in ("Q3", "Q4"):
        found = whole.metrics["calibration"][quadrant]
        assert 0.8 < found[RECOMMENDER]["coverage"]["mean"] < 0.98
        assert found[RECOMMENDER]["interval_score"]["mean"] < found["static_mean_accuracy"]["interval_score"]["mean"]
        assert found[RECOMMENDER]["absolute_error"]["mean"] == pytest.approx(0.03 * np.sqrt(2 / np.pi), rel=0.3)
    assert 0.8 < whole.metrics["calibration"]["Q3"]["static_mean_accuracy"]["coverage"]["mean"] <= 1.0


def test_calibration_by_hand(study):
    truth = study.values
    certain = Scores(truth, truth, truth - 0.1, truth + 0.1)
    wrong = Scores(truth, truth + 0.5, truth + 0.4, truth + 0.6)
    found = calibration(study, {"certain": certain, "wrong": wrong, "silent": Scores(truth)}, bootstrap=50)
    assert set(found["Q4"]) == {"certain", "wrong"}
    assert found["Q4"]["certain"]["coverage"]["mean"] == 1.0
    assert found["Q4"]["certain"]["interval_score"]["mean"] == pytest.approx(0.2)
    assert found["Q4"]["wrong"]["interval_score"]["mean"] == pytest.approx(0.2 + 20 * 0.4)


def test_probing_beats_the_prior_and_costs_what_it_costs(whole, study):
    probing = whole.metrics["probing"]
    assert probing["n_datasets"] == len(study.columns("test"))
    assert probing["shares"] == {"0.05": 2, "0.1": 4}
    frontier = probing["frontier"]
    last = frontier["active"]["25"]
    assert last["regret@1"]["mean"] <= frontier["active"]["1"]["regret@1"]["mean"]
    assert last["seconds"]["mean"] == pytest.approx(25 * 0.5)
    assert frontier["cheap_score_all"]["1"]["seconds"]["mean"] == pytest.approx(36 * 0.5)
    assert frontier["active"]["6"]["regret@1"]["mean"] <= frontier["random_probes"]["6"]["regret@1"]["mean"]
    difference = probing["paired"]["prior_top"]["6"]["regret@1"]
    exact = frontier["active"]["6"]["regret@1"]["mean"] - frontier["prior_top"]["6"]["regret@1"]["mean"]
    assert difference["mean"] == pytest.approx(exact)


def test_error_model_is_a_covariance(whole, study):
    covariance = whole.errors.covariance
    assert covariance.shape == (36, 36)
    assert np.linalg.eigvalsh(covariance).min() > -1e-8
    assert 0 < whole.errors.noise_std < 0.1
    assert whole.errors.fidelity.slope == pytest.approx(3.0, abs=0.2)


def test_choice_uses_validation_data_only(study):
    """Changing every test figure and every unknown model's figure must leave the choice as it is."""
    before = choose_baselines(study, FAST)
    known = study.split.known_models(study.models.model_ids)
    values = study.values.copy()
    values[:, study.columns("test")] = 1 - values[:, study.columns("test")]
    values[~known] = 0.5
    masks = quadrant_masks(study.split, study.models.model_ids, study.dataset_ids)
    values[masks["Q1"]] = 1 - values[masks["Q1"]]
    assert choose_baselines(Study(**{**study.__dict__, "values": values}), FAST) == before
    assert set(before) == {"Q1", "Q2", "Q3", "Q4"}


def test_paired_difference_is_of_the_same_datasets(study, whole):
    found = compare(study, whole.figures, RECOMMENDER, {"Q3": ["leep"]}, 100)["Q3"]["leep"]["weighted_tau"]
    part = whole.figures[whole.figures["quadrant"] == "Q3"].pivot_table(
        index="dataset_id", columns="method", values="weighted_tau"
    )
    assert found["mean"] == pytest.approx((part[RECOMMENDER] - part["leep"]).mean())


def test_groups_are_disjoint_parts_of_the_whole(study, whole):
    natural = [d for d, group in zip(study.dataset_ids, study.groups, strict=True) if group == "natural"]
    part = summarise(study, whole.figures, bootstrap=50, datasets=natural)["Q3"]["random"]["regret@1"]["n"]
    both = sum(whole.metrics["groups"][g]["Q3"]["random"]["regret@1"]["n"] for g in ("natural", "structured"))
    assert part < both == whole.metrics["quadrants"]["Q3"]["random"]["regret@1"]["n"]


def test_shaped_values_follow_the_score_and_keep_level_and_spread():
    value = np.array([[0.2], [0.4], [0.6]])
    shaped = shaped_values(Scores(np.array([[3.0], [2.0], [1.0]]), value))
    assert np.argsort(shaped[:, 0]).tolist() == [2, 1, 0]
    assert shaped.mean() == pytest.approx(0.4)
    assert shaped.std() == pytest.approx(value.std())


def test_without_scores_and_ranker_the_rest_still_works(study):
    found = evaluate(
        study, None, pd.DataFrame(), EvaluationSettings(("random", "kernel_ridge"), ("logme",), bootstrap=50)
    )
    assert "probing" not in found.metrics
    same = found.metrics["quadrants"]["Q3"]
    assert same[RECOMMENDER]["weighted_tau"] == same["kernel_ridge"]["weighted_tau"]


def test_a_probe_of_many_draws_is_less_noisy(study, prophet):
    noisy = replace(study, spread=np.full_like(study.values, 0.2))
    found = {}
    for draws in (1, 400):
        probing = ProbingSettings((len(study.models),), (), draws=draws)
        settings = EvaluationSettings(("static_mean_accuracy",), (), bootstrap=50, probing=probing)
        frontier = evaluate(noisy, prophet, pd.DataFrame(), settings).metrics["probing"]["frontier"]["active"]
        found[draws] = frontier[str(len(study.models))]["weighted_tau"]["mean"]
    # All candidates probed: only noise is left between the posterior and the truth.
    assert found[400] > 0.95
    assert found[1] < found[400] - 0.05


def test_probing_without_cheap_scores(study, prophet):
    found = evaluate(
        study,
        prophet,
        pd.DataFrame(),
        EvaluationSettings(("static_mean_accuracy",), (), bootstrap=50, probing=ProbingSettings((1,), (), repeats=1)),
    )
    assert set(found.metrics["probing"]["frontier"]) == {"active", "prior_top", "random_probes"}


def test_a_zoo_without_unknowns_has_no_figures_to_invent(tables):
    world, info, cells, _ = tables
    part = cells[cells["dataset_id"].isin(["domain0_task0"])]
    families = dict(zip(world.models.model_ids, world.models.families, strict=True))
    splits = assign_splits(part, families, info)
    study = assemble_study(part, splits, world.models, world.tokens, info)
    found = evaluate(study, Prophet(study.values, study.models.model_ids, study.dataset_ids), pd.DataFrame(), SETTINGS)
    assert "Q3" not in found.metrics["quadrants"]
    assert found.metrics["probing"]["n_datasets"] == 0


def test_constant_scores_share_their_random_orders(study):
    masks = {"Q3": quadrant_masks(study.split, study.models.model_ids, study.dataset_ids)["Q3"]}
    flat = np.ones_like(study.values)
    figures = figures_per_dataset(study, {"a": flat, "b": 2 * flat}, masks, draws=30)
    a, b = (figures[figures["method"] == name].reset_index(drop=True) for name in "ab")
    assert (
        a[list(METRICS)].drop(columns="pearson").to_numpy() == b[list(METRICS)].drop(columns="pearson").to_numpy()
    ).all()
    assert abs(a["weighted_tau"].mean()) < 0.2


def test_static_bounds_of_unknown_models_are_wider(study):
    scores = baseline_scores(study, ["static_mean_accuracy"])["static_mean_accuracy"]
    known = study.split.known_models(study.models.model_ids)
    width = (scores.high - scores.low).mean(axis=1)
    assert width[~known].mean() > width[known].mean()


def test_members_are_judged_apart(study):
    scores = {"cross_attention": [study.values, -study.values]}
    found = figures_per_dataset(
        study, {RECOMMENDER: study.values}, quadrant_masks(study.split, study.models.model_ids, study.dataset_ids), 1
    )
    document = evaluation.document(
        study,
        {RECOMMENDER: Scores(study.values)},
        found,
        chosen={},
        ceiling={},
        settings=EvaluationSettings((), (), bootstrap=20),
        members=scores,
    )
    assert document["seeds"]["cross_attention"]["Q3"] == pytest.approx([1.0, -1.0])


def test_one_family_of_datasets_still_has_bounds():
    models = ModelTable(["a", "b"], np.zeros((2, 3), np.float32), ["x", "x"], np.ones(2))
    task = TaskTokens("d", np.ones((1, 2, 4), np.float32) / 2, ["0", "1"], 4)
    split = Split({"a": True, "b": True}, {"d": "train"}, {})
    study = Study(models, [task], np.array([[0.4], [0.6]]), split, ["f"], ["g"])
    scores = baseline_scores(study, ["static_mean_accuracy"])["static_mean_accuracy"]
    assert np.isfinite(scores.low).all()
