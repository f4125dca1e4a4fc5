"""Parameters of the pipeline hardware_profiling."""

from pydantic import Field

from thesis_rec.base.settings import Words
from thesis_rec.hardware.timing import ProfileSettings
from thesis_rec.pipelines.selection import ModelStep


class HardwareProfilingParameters(ProfileSettings, ModelStep):
    """What ``conf/base/parameters/hardware_profiling.yml`` holds; each knob is explained there."""

    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)
    models: Words[str] = ()
