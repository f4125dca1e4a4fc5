"""Parameters of the pipeline hardware_profiling."""

from pydantic import Field

from thesis_rec.base.settings import Shard, Words
from thesis_rec.hardware.timing import ProfileSettings


class HardwareProfilingParameters(ProfileSettings):
    """What ``conf/base/parameters/hardware_profiling.yml`` holds; each knob is explained there."""

    models_root: str = Field(min_length=1)
    hub_cache: str = Field(min_length=1)
    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)
    models: Words[str] = ()
    strict: bool = False
    shard: Shard = Shard()
