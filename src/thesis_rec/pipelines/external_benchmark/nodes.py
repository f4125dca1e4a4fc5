"""Nodes of the pipeline external_benchmark."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from thesis_rec.evaluation.external import READERS, BenchmarkSettings, Method, network, run_benchmark


class ExternalBenchmarkParameters(BenchmarkSettings):
    """What ``conf/base/parameters/external_benchmark.yml`` holds; each knob is explained there."""

    benchmark: Literal["transfergraph", "site", "model_spider"] = "transfergraph"
    tables_dir: str = Field(min_length=1)
    train_ranker: bool = True
    ranker_epochs: int = Field(default=15, ge=1)


def read_published_table(parameters: ExternalBenchmarkParameters) -> Any:
    """The chosen benchmark's tables in one form."""
    return READERS[parameters.benchmark](Path(parameters.tables_dir).expanduser())


def evaluate_published_table(published_table: Any, parameters: ExternalBenchmarkParameters) -> dict[str, Any]:
    """Every method on every target of the table, each target left out in turn."""
    networks: dict[str, Method] = {}
    if parameters.train_ranker:
        networks["similarity_transformer"] = partial(network, epochs=parameters.ranker_epochs)
    return run_benchmark(published_table, parameters, networks)


def draw_external_metrics(external_metrics: dict[str, Any]) -> Any:
    """Weighted tau of every method with its interval."""
    from thesis_rec.evaluation.charts import draw, external_chart

    return draw(external_chart(external_metrics))
