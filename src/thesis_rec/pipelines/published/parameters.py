"""Parameters of the pipeline published."""

from pydantic import Field

from thesis_rec.base.settings import Words
from thesis_rec.knowledge.covariance import Shrinkage


class PublishedParameters(Shrinkage):
    """What ``conf/base/parameters/published.yml`` holds; each knob is explained there."""

    tables: str = ""
    cache: str = Field(min_length=1)
    aliases: str = Field(min_length=1)
    strict: bool = True
    protocols: Words[str] = ("linear_probe", "zero_shot", "fine_tune")
