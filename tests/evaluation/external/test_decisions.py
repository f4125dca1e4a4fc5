"""Who is known in which quadrant, and choices with a few real runs."""

from dataclasses import replace

import numpy as np
import pytest

from tests.evaluation.external.conftest import QUICK
from thesis_rec.evaluation.external import PublishedTable, posterior, probes, quadrants, without


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
