"""The results page against the code: one seed, learned here, ends within the published intervals."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from tests.conftest import PROJECT
from thesis_rec.evaluation.study import assemble_study
from thesis_rec.knowledge.posterior import Cell


@pytest.fixture(scope="module")
def benchmark():
    specification = importlib.util.spec_from_file_location("ranking_benchmark", PROJECT / "benchmarks" / "ranking.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def world(benchmark):
    return benchmark.read_world(benchmark.STARTER, seed=0)


@pytest.fixture(scope="module")
def study(world):
    return assemble_study(world.performance, world.splits, world.models, world.tokens, world.datasets)


@pytest.mark.slow
def test_measuring_the_five_best_predicted_models_keeps_the_others_right(study):
    """On the embedded zoo's unknown datasets: no selection of measured models pulls everything up."""
    knowledge = study.knowledge()
    rows = []
    for column in study.columns("test"):
        truth = study.values[:, column]
        belief = knowledge.posterior(study.models, study.tasks[column])
        best = belief.ranking()[:5]
        cells = [Cell(study.models.model_ids[i], float(truth[i]), knowledge.noise) for i in best]
        found = belief.given(cells)
        rest = np.setdiff1d(np.flatnonzero(np.isfinite(truth)), best)
        low, high = (end[rest] for end in found.interval())
        # What is measured below chance by chance counts as chance: no interval ends below.
        held = np.maximum(truth[rest], belief.scale.chance)
        errors = found.value()[rest] - truth[rest]
        rows.append((np.abs(errors).mean(), errors.mean(), ((low <= held + 1e-9) & (held <= high + 1e-9)).mean()))
    error, bias, coverage = np.mean(rows, axis=0)
    assert error <= 0.048
    assert abs(bias) <= 0.01
    assert 0.85 <= coverage <= 0.95


@pytest.mark.slow
def test_one_seed_lies_within_the_published_intervals(benchmark, world):
    published = json.loads((PROJECT / "docs" / "results" / "ranking.json").read_text(encoding="utf-8"))["data"]
    # Simulated tries are not compared, so that one repeat of them is enough.
    found = benchmark.evaluate(world, None, seed=0, quick=True, repeats=1).metrics
    for quadrant in ("Q1", "Q2", "Q3", "Q4"):
        figures = {name: entry["weighted_tau"] for name, entry in published["quadrants"][quadrant].items()}
        ours = {name: entry["weighted_tau"]["mean"] for name, entry in found["quadrants"][quadrant].items()}
        assert figures["recommender"]["low"] <= ours["recommender"] <= figures["recommender"]["high"]
        # What the page says of the opponents is what they are.
        for rival in ("static_mean_z", "logme"):
            assert ours[rival] == pytest.approx(figures[rival]["mean"], abs=0.005)
