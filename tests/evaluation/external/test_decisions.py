"""Choices under a budget and with a few real runs."""

import numpy as np
import pytest

from tests.evaluation.external.conftest import QUICK
from thesis_rec.evaluation.external import benchmark as decisions
from thesis_rec.evaluation.external.benchmark import budgets, probes
from thesis_rec.evaluation.external.methods import SmoothedRanks
from thesis_rec.evaluation.external.tables import PublishedTable


def test_budgets_by_a_case_without_doubt(table):
    """Speeds that are known exactly are never missed, and the best fast model is chosen by a perfect score."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=(len(table.model_ids), 1))
    seconds = np.exp(-own - rng.normal(size=(1, len(table.dataset_ids))))
    exact = PublishedTable(**{**table.__dict__, "seconds": seconds})
    perfect = np.nan_to_num(table.values[:, [table.dataset_ids.index(t) for t in table.targets]])
    found = budgets(exact, {"oracle": perfect}, QUICK)["0.5"]["oracle"]
    assert found["violations"]["mean"] == 0
    # The demand is a quantile, so floating point may cost the model that is exactly on it.
    assert found["regret"]["mean"] < 0.1


def test_probes_help(table):
    found = probes(table, SmoothedRanks(), QUICK)
    assert found["policies"]["own_top"]["3"]["mean"] <= found["without"]["mean"]
    assert set(found["policies"]) == {"active", "own_top"}


def test_failures_are_brought_up_to_the_fence():
    values = np.array([0.8, 0.82, 0.84, 0.86, 0.01, np.nan])
    mended = decisions._without_failures(values)
    assert mended[:4] == pytest.approx(values[:4])
    assert 0.6 < mended[4] < 0.8
    assert np.isnan(mended[5])
