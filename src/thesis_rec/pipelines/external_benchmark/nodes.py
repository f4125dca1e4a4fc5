"""Nodes of the pipeline external_benchmark."""

from functools import partial
from pathlib import Path
from typing import Any

from thesis_rec.evaluation.external import READERS, Method, network, run_benchmark
from thesis_rec.pipelines.external_benchmark.parameters import ExternalBenchmarkParameters


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
