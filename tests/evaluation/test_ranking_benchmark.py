"""The results page against the code: one seed, trained here, ends within the published intervals."""

import importlib.util
import json
import sys

import pytest

from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def benchmark():
    specification = importlib.util.spec_from_file_location("ranking_benchmark", PROJECT / "benchmarks" / "ranking.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_one_seed_lies_within_the_published_intervals(benchmark):
    published = json.loads((PROJECT / "docs" / "results" / "ranking.json").read_text(encoding="utf-8"))["data"]
    world = benchmark.read_world(benchmark.STARTER, seed=0)
    found = benchmark.evaluate(world, benchmark.train(world, 1, seed=0)[0], seed=0, quick=True).metrics
    for quadrant in ("Q1", "Q2", "Q3", "Q4"):
        figures = {name: entry["weighted_tau"] for name, entry in published["quadrants"][quadrant].items()}
        ours = {name: entry["weighted_tau"]["mean"] for name, entry in found["quadrants"][quadrant].items()}
        assert figures["recommender"]["low"] <= ours["recommender"] <= figures["recommender"]["high"]
        # What the page says of the opponents is what they are.
        for rival in ("static_mean_z", "logme"):
            assert ours[rival] == pytest.approx(figures[rival]["mean"], abs=0.005)
