"""Choices under a budget and with a few real runs."""

from dataclasses import replace

import numpy as np
import pytest

from tests.evaluation.external.conftest import QUICK
from thesis_rec.evaluation.external import PublishedTable, _safe_speed, budgets, posterior, probes, quadrants, without


def test_budgets_by_a_case_without_doubt(table):
    """Speeds that are known exactly are never missed, and the best fast model is chosen by a perfect score."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=(len(table.models.model_ids), 1))
    seconds = np.exp(-own - rng.normal(size=(1, len(table.dataset_ids))))
    exact = replace(table, seconds=seconds)
    found = budgets(exact, {"oracle": np.nan_to_num(table.values)}, QUICK)["0.5"]["oracle"]
    assert found["violations"]["mean"] == 0
    # The demand is a quantile, so floating point may cost the model that is exactly on it.
    assert found["regret"]["mean"] < 0.1


def test_where_nothing_is_surely_fast_enough_the_fastest_on_other_datasets_is_taken(table):
    late, lost = [], []
    for seed in range(5):
        speed = np.random.default_rng(seed).normal(size=table.values.shape)
        found = budgets(replace(table, seconds=np.exp(-speed)), {"oracle": table.values}, QUICK)["0.5"]["oracle"]
        for target in table.targets:
            j = table.dataset_ids.index(target)
            rows = np.isfinite(table.values[:, j])
            others = np.delete(speed, j, axis=1)
            expected = (others - others.mean(axis=0)).mean(axis=1)
            chosen = np.flatnonzero(rows)[expected[rows].argmax()]
            demand = np.quantile(speed[rows, j], 0.5)
            late.append(speed[chosen, j] < demand)
            best = table.values[rows & (speed[:, j] >= demand), j].max()
            lost.append(max(best - table.values[chosen, j], 0.0))
        assert found["violations"]["mean"] == pytest.approx(np.mean(late[-len(table.targets) :]))
        assert found["regret"]["mean"] == pytest.approx(np.mean(lost[-len(table.targets) :]))
    assert 0 < np.mean(late) < 1


def test_safe_speeds_are_below_the_mean_by_a_quantile_of_what_other_datasets_missed():
    speed = np.random.default_rng(0).normal(size=(12, 6))
    speed[3, 1:3] = np.nan
    centred = speed - np.nanmean(speed, axis=0)
    errors = [
        centred[row, column] - np.nanmean(np.delete(centred[row], column))
        for row, column in np.argwhere(np.isfinite(speed))
    ]
    np.testing.assert_allclose(_safe_speed(speed, 0.1), np.nanmean(centred, axis=1) + np.quantile(errors, 0.1))


def test_quadrants_are_of_known_and_unknown_models_and_datasets(table):
    """By one who is right about known models alone, and one who is right about the datasets that are trained on."""

    def judged(right):
        return lambda part: np.where(right(part), part.values, -part.values)

    methods = {
        "models": judged(lambda part: np.broadcast_to(part.known[:, None], part.values.shape)),
        "datasets": judged(lambda part: np.broadcast_to(part.split.roles == "train", part.values.shape)),
    }
    found = quadrants(table, methods, QUICK)
    signs = {q: [entry[name]["mean"] for name in methods] for q, entry in found.items()}
    expected = {"Q1": [1, 1], "Q2": [-1, 1], "Q3": [1, -1], "Q4": [-1, -1]}
    assert signs == {q: pytest.approx(pair) for q, pair in expected.items()}


def test_probes_are_of_models_that_were_measured_on_datasets_that_are_unknown(table, monkeypatch):
    gaps = np.random.default_rng(0).random(table.values.shape) < 0.3
    table = replace(table, values=np.where(gaps, np.nan, table.values))
    learn, learned = PublishedTable.knowledge, []
    monkeypatch.setattr(PublishedTable, "knowledge", lambda part: learned.append(part.training()) or learn(part))
    found = probes(table, QUICK)
    assert [{*table.dataset_ids} - {*part.dataset_ids} for part in learned] == [{name} for name in table.dataset_ids]
    first, third = [], []
    for j, target in enumerate(table.dataset_ids):
        rows = np.isfinite(table.values[:, j])
        truth, score = table.values[rows, j], posterior(without(table, [target]))[rows, j]
        best = truth[np.argsort(-score)]
        first.append(truth.max() - best[0])
        third.append(truth.max() - best[:3].max())
    assert found["without"]["mean"] == pytest.approx(np.mean(first))
    assert found["policies"]["own_top"]["1"]["mean"] == pytest.approx(np.mean(first))
    assert found["policies"]["own_top"]["3"]["mean"] == pytest.approx(np.mean(third))
    assert found["policies"]["active"]["3"]["mean"] <= found["without"]["mean"]
    assert set(found["policies"]) == {"active", "own_top"}
