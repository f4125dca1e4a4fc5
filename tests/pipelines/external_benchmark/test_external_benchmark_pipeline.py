"""The pipeline external_benchmark on fabricated copies of the published tables."""

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from pydantic import ValidationError

from tests.evaluation.external.tables import write_published_tables
from thesis_rec.pipelines.external_benchmark.nodes import ExternalBenchmarkParameters
from thesis_rec.pipelines.external_benchmark.pipeline import create_pipeline


class Kept(MemoryDataset):
    def _release(self):
        pass


@pytest.mark.parametrize("train", [False, True])
def test_from_tables_to_figures(tmp_path, train):
    parameters = ExternalBenchmarkParameters(
        benchmark="site", tables_dir=str(write_published_tables(tmp_path / "t")), train_ranker=train, ranker_epochs=1,
        bootstrap=20, draws=2, folds=2, seeds=1, probes=(1,),
    )  # fmt: skip
    catalog = DataCatalog(
        {
            "params:external_benchmark": MemoryDataset(parameters, copy_mode="assign"),
            "external_metrics": Kept(),
            "external_plot": Kept(copy_mode="assign"),
            "published_table": MemoryDataset(copy_mode="assign"),
        }
    )
    SequentialRunner().run(create_pipeline(), catalog)
    metrics = catalog.load("external_metrics")
    assert metrics["benchmark"] == "site"
    assert ("similarity_transformer" in metrics["methods"]) == train
    assert [axis.get_title() for axis in catalog.load("external_plot").axes] == ["weighted tau", "regret@1"]


def test_typing_errors_in_parameters_are_refused():
    with pytest.raises(ValidationError):
        ExternalBenchmarkParameters(tables_dir="x", benchmrak="site")
