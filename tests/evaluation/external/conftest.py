"""Fabricated published tables, and how they are evaluated quickly."""

import pytest

from tests.evaluation.external.tables import write_published_tables
from thesis_rec.evaluation.external import READERS, BenchmarkSettings

QUICK = BenchmarkSettings(draws=2, bootstrap=50, folds=3, seeds=1, probes=(1, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_published_tables(tmp_path_factory.mktemp("tables") / "t")


@pytest.fixture(scope="module")
def table(folder):
    return READERS["transfergraph"](folder)
