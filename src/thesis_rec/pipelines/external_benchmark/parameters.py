"""Parameters of the pipeline external_benchmark."""

from typing import Literal

from pydantic import Field

from thesis_rec.evaluation.external import BenchmarkSettings


class ExternalBenchmarkParameters(BenchmarkSettings):
    """What ``conf/base/parameters/external_benchmark.yml`` holds; each knob is explained there."""

    benchmark: Literal["transfergraph", "site", "model_spider"] = "transfergraph"
    tables_dir: str = Field(min_length=1)
    train_ranker: bool = True
    ranker_epochs: int = Field(default=15, ge=1)
