"""Choices under a budget and with a few real runs."""

from dataclasses import replace

import numpy as np

from tests.evaluation.external.conftest import QUICK
from thesis_rec.evaluation.external import budgets, probes


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


def test_probes_help(table):
    found = probes(table, QUICK)
    assert found["policies"]["own_top"]["3"]["mean"] <= found["without"]["mean"]
    assert set(found["policies"]) == {"active", "own_top"}
