"""The whole evaluation on a fabricated world, with recommenders whose quality is known."""

import json
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tests.contracts import validate_rankings
from tests.evaluation.conftest import FAST, NO_SCORES, SETTINGS
from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.catalog.validators import validate_evaluation_metrics
from thesis_rec.evaluation import quadrant_evaluation
from thesis_rec.evaluation.metrics import METRICS
from thesis_rec.evaluation.probing_simulation import ProbingSettings
from thesis_rec.evaluation.quadrant_evaluation import (
    RECOMMENDER,
    SCORED,
    EvaluationSettings,
    baseline_scores,
    evaluate,
    network_scores,
    posterior_scores,
)
from thesis_rec.evaluation.study import Scores, Study, assemble_study
from thesis_rec.knowledge.posterior import Cell
from thesis_rec.knowledge.quadrants import Split, assign_splits


def probing_of(settings):
    return EvaluationSettings(baselines=("static_mean_accuracy",), transferability=(), bootstrap=50, probing=settings)


def test_document_has_the_form_of_the_contract(whole):
    validate_evaluation_metrics(whole.metrics)
    validate_rankings(whole.rankings)
    text = json.dumps(whole.metrics)
    assert "NaN" not in text
    metrics = json.loads(text)
    assert set(metrics["quadrants"]) == {"Q1", "Q2", "Q3", "Q4"}
    for quadrant in metrics["quadrants"].values():
        assert {RECOMMENDER, "similarity_transformer", *FAST} <= set(quadrant)
        values = [value for figures in quadrant.values() for value in figures.values() if value["low"] is not None]
        assert values
        assert all(value["low"] - 1e-9 <= value["mean"] <= value["high"] + 1e-9 for value in values)
        for figures in quadrant.values():
            assert set(figures) - {"coverage"} == set(METRICS)
            assert set(figures["weighted_tau"]) == {"mean", "low", "high", "n"}
    for quadrant, entry in metrics["paired"].items():
        tau = entry["weighted_tau"]
        assert tau["method"] == RECOMMENDER
        found = {name: entry["weighted_tau"]["mean"] for name, entry in metrics["quadrants"][quadrant].items()}
        assert found[tau["baseline"]] == max(
            value for name, value in found.items() if name not in (RECOMMENDER, SCORED)
        )
        with_scores = metrics["paired_with_scores"][quadrant]
        assert found[SCORED] - found["logme"] == pytest.approx(with_scores["logme"]["weighted_tau"]["mean"])
    assert set(metrics["groups"]) == {"natural", "structured"}
    assert metrics["noise_ceiling"]["linear_probe"]["mean"] == 0.95
    assert metrics["cost_seconds"]["logme"] == pytest.approx(0.5 * 36)


def test_the_one_who_knows_wins(whole):
    for entry in whole.metrics["quadrants"].values():
        own = entry[RECOMMENDER]["weighted_tau"]
        assert own["mean"] > 0.7
        assert abs(entry["random"]["weighted_tau"]["mean"]) < 0.35
    for quadrant in ("Q3", "Q4"):
        assert whole.metrics["paired_all"][quadrant]["static_mean_z"]["weighted_tau"]["better"]
        assert whole.metrics["paired_all"][quadrant]["static_mean_z"]["regret@1"]["mean"] < 0


def test_evaluation_is_repeatable(study, prophet, oracle, transferability, whole):
    again = evaluate(study, prophet, transferability, SETTINGS, knowledge=oracle)
    pd.testing.assert_frame_equal(again.rankings, whole.rankings)
    pd.testing.assert_frame_equal(again.figures, whole.figures)
    assert again.metrics["probing"] == whole.metrics["probing"]


def test_intervals_of_an_honest_recommender_are_calibrated(whole):
    for quadrant in ("Q3", "Q4"):
        found = whole.metrics["calibration"][quadrant]
        assert 0.8 < found[RECOMMENDER]["coverage"]["mean"] < 0.98
        assert found[RECOMMENDER]["interval_score"]["mean"] < found["static_mean_accuracy"]["interval_score"]["mean"]
        assert found[RECOMMENDER]["absolute_error"]["mean"] < 0.06
        # Of a normal error nine in ten lie within 1.645 standard deviations.
        assert found["similarity_transformer"]["width"]["mean"] == pytest.approx(2 * 1.645 * 0.03, rel=1e-3)
    assert 0.8 < whole.metrics["calibration"]["Q3"]["static_mean_accuracy"]["coverage"]["mean"] <= 1.0


def test_probing_beats_the_prior_and_costs_what_it_costs(whole, study):
    probing = whole.metrics["probing"]
    assert probing["n_datasets"] == len(study.columns("test"))
    assert probing["shares"] == {"0.05": 2, "0.1": 4}
    frontier = probing["frontier"]
    last = frontier["active"]["25"]
    assert last["regret@1"]["mean"] <= frontier["active"]["1"]["regret@1"]["mean"]
    assert last["seconds"]["mean"] == pytest.approx(25 * 0.5)
    assert frontier["cheap_score_all"]["1"]["seconds"]["mean"] == pytest.approx(36 * 0.5)
    assert frontier["active"]["6"]["weighted_tau"]["mean"] > frontier["own_top"]["6"]["weighted_tau"]["mean"] - 0.02
    difference = probing["paired"]["own_top"]["6"]["regret@1"]
    exact = frontier["active"]["6"]["regret@1"]["mean"] - frontier["own_top"]["6"]["regret@1"]["mean"]
    assert difference["mean"] == pytest.approx(exact)


def test_without_scores_and_ranker_the_rest_still_works(study):
    found = evaluate(
        study,
        None,
        NO_SCORES,
        EvaluationSettings(baselines=("random", "kernel_ridge"), transferability=("logme",), bootstrap=50),
    )
    assert set(found.metrics["quadrants"]["Q3"]) == {RECOMMENDER, "random", "kernel_ridge"}
    assert found.metrics["quadrants"]["Q3"][RECOMMENDER]["weighted_tau"]["mean"] > 0.3
    assert found.metrics["probing"]["frontier"]["active"]


def test_what_is_measured_is_what_a_request_gets(study):
    """The recommender's column is the posterior given the cells that may be used: withheld ones change nothing."""
    knowledge = study.knowledge()
    # A measurement's noise is the root mean square of what its repeats differ by.
    repeats = study.spread[study.allowed() & (study.spread > 0)]
    assert knowledge.noise == pytest.approx(np.sqrt((repeats**2).mean()))
    scores = posterior_scores(study, knowledge)
    column = int(study.columns("train")[0])
    usable = np.flatnonzero(study.allowed()[:, column])
    cells = [Cell(study.models.model_ids[i], float(study.values[i, column]), knowledge.noise) for i in usable]
    belief = knowledge.posterior(study.models, study.tasks[column], cells)
    np.testing.assert_allclose(scores.score[:, column], belief.mean)
    np.testing.assert_allclose(scores.low[:, column], belief.interval()[0])
    hidden = np.where(study.allowed(), study.values, 0.5)
    again = replace(study, values=np.where(np.isfinite(study.values), hidden, np.nan))
    np.testing.assert_allclose(posterior_scores(again, again.knowledge()).score, scores.score)


def test_costs_are_seconds_of_one_dataset(study, oracle, monkeypatch):
    """A clock that only moves where a method works: two seconds a dataset, and what a cheap score of all takes."""
    clock = [0.0]

    def works(found, datasets):
        clock[0] += 2.0 * datasets
        return found

    def predict(models, tasks):
        return works(dict.fromkeys(("score", "value", "std"), zeros), len(tasks))

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    zeros = np.zeros_like(study.values)
    knowledge = SimpleNamespace(noise=0.01, posterior=lambda *given: works(oracle.posterior(*given), 1))
    ranker = SimpleNamespace(predict=predict)
    monkeypatch.setattr(
        quadrant_evaluation, "baseline", lambda name: lambda training: lambda tasks: works(zeros, len(tasks))
    )
    cheap = Scores(study.values, seconds=18.0)
    found = [
        posterior_scores(study, knowledge),
        posterior_scores(study, knowledge, cheap),
        network_scores(study, ranker),
        baseline_scores(study, ["random"])["random"],
    ]
    assert [scores.seconds for scores in found] == pytest.approx([2, 20, 2, 2])


def test_a_probe_of_many_draws_is_less_noisy(study, oracle):
    noisy = replace(study, spread=np.full_like(study.values, 0.2))
    found = {}
    for draws in (1, 400):
        probing = ProbingSettings(counts=(len(study.models),), shares=(), draws=draws)
        settings = probing_of(probing)
        frontier = evaluate(noisy, None, NO_SCORES, settings, knowledge=oracle).metrics["probing"]["frontier"]["active"]
        found[draws] = frontier[str(len(study.models))]["weighted_tau"]["mean"]
    # All candidates probed: only noise is left between the posterior and the truth.
    assert found[400] > 0.95
    assert found[1] < found[400] - 0.05


def test_a_judge_of_its_own_gives_nothing_to_those_who_saw_the_measured_values(study, oracle):
    noisy = replace(study, spread=np.full_like(study.values, 0.2))
    found = {}
    for judge in (0, 1):
        probing = ProbingSettings(counts=(len(study.models),), shares=(), draws=10**6, judge_draws=judge)
        settings = probing_of(probing)
        frontier = evaluate(noisy, None, NO_SCORES, settings, knowledge=oracle).metrics["probing"]["frontier"]["active"]
        found[judge] = frontier[str(len(study.models))]["weighted_tau"]["mean"]
    assert found[0] > 0.95
    assert found[1] < found[0] - 0.05


def test_probing_without_cheap_scores(study, oracle):
    settings = probing_of(ProbingSettings(counts=(1, 3), shares=(), repeats=1, probe_cost=2.5))
    frontier = evaluate(study, None, NO_SCORES, settings, knowledge=oracle).metrics["probing"]["frontier"]
    assert set(frontier) == {"active", "best_observed", "own_top", "random_probes"}
    assert frontier["active"]["1"]["seconds"]["mean"] == 2.5
    assert frontier["random_probes"]["3"]["seconds"]["mean"] == 7.5


def test_a_zoo_without_unknowns_has_no_figures_to_invent(tables):
    world, info, cells, _ = tables
    part = cells[cells["dataset_id"].isin(["domain0_task0"])]
    families = dict(zip(world.models.model_ids, world.models.families, strict=True))
    splits = assign_splits(part, families, info)
    study = assemble_study(part, splits, world.models, world.tokens, info)
    found = evaluate(study, None, NO_SCORES, SETTINGS)
    assert "Q3" not in found.metrics["quadrants"]
    assert found.metrics["probing"]["n_datasets"] == 0


def test_static_bounds_of_unknown_models_are_wider(study):
    scores = baseline_scores(study, ["static_mean_accuracy"])["static_mean_accuracy"]
    known = study.known
    width = (scores.high - scores.low).mean(axis=1)
    assert width[~known].mean() > width[known].mean()


def test_static_bounds_by_loops():
    """Of a known model by what its mean over other families misses, of an unknown one by what its relatives' does."""
    families, names, domains = list("xxxyy"), list("abcde"), ["f", "f", "g", "h"]
    values = np.random.default_rng(0).uniform(0.3, 0.7, size=(5, 4))
    known = np.array([True, True, True, True, False])
    tasks = [TaskTokens(f"d{j}", np.ones((1, 2, 4), np.float32) / 2, ["0", "1"], 4) for j in range(4)]
    split = Split(known, np.array(["train"] * 3 + ["test"]), np.full((5, 4), ""))
    study = Study(
        ModelTable(names, np.zeros((5, 3), np.float32), families, np.ones(5)), tasks, values, split, domains, domains
    )
    found = baseline_scores(study, ["static_mean_accuracy"])["static_mean_accuracy"]
    of_known, of_unknown = [], []
    for i, j in product(range(4), range(3)):
        of_known.append(values[i, j] - np.mean([values[i, k] for k in range(3) if domains[k] != domains[j]]))
        # The only known one of its family is stood in for by all others.
        relatives = [k for k in range(4) if k != i and families[k] == families[i]] or [k for k in range(4) if k != i]
        of_unknown.append(values[i, j] - values[relatives, :3].mean())
    for rows, errors in ((known, of_known), (~known, of_unknown)):
        low, high = np.quantile(errors, [0.05, 0.95])
        np.testing.assert_allclose(found.low[rows], found.score[rows] + low)
        np.testing.assert_allclose(found.high[rows], found.score[rows] + high)


def test_one_family_of_datasets_still_has_bounds():
    models = ModelTable(["a", "b"], np.zeros((2, 3), np.float32), ["x", "x"], np.ones(2))
    task = TaskTokens("d", np.ones((1, 2, 4), np.float32) / 2, ["0", "1"], 4)
    split = Split(np.ones(2, bool), np.array(["train"]), np.full((2, 1), ""))
    study = Study(models, [task], np.array([[0.4], [0.6]]), split, ["f"], ["g"])
    scores = baseline_scores(study, ["static_mean_accuracy"])["static_mean_accuracy"]
    assert np.isfinite(scores.low).all()
