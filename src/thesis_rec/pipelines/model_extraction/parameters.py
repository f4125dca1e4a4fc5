"""Parameters of the pipeline model_extraction."""

from pydantic import Field

from thesis_rec.base.settings import Settings, Shard


class ModelExtractionParameters(Settings):
    """What ``conf/base/parameters/model_extraction.yml`` holds; each knob is explained there."""

    models_root: str = Field(min_length=1)
    hub_cache: str | None = None
    max_models: int | None = Field(default=None, ge=1)
    fetch_gb: float = Field(default=float("inf"), ge=0)
    bundle: str = ""
    threads: int | None = Field(default=None, ge=1)
    strict: bool = False
    shard: Shard = Shard()
