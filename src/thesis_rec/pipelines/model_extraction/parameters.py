"""Parameters of the pipeline model_extraction."""

from pydantic import Field

from thesis_rec.pipelines.selection import ModelStep


class ModelExtractionParameters(ModelStep):
    """What ``conf/base/parameters/model_extraction.yml`` holds; each knob is explained there."""

    max_models: int | None = Field(default=None, ge=1)
    fetch_gb: float = Field(default=float("inf"), ge=0)
    bundle: str = ""
    threads: int | None = Field(default=None, ge=1)
