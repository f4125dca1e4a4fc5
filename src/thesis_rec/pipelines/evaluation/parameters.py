"""Parameters of the pipeline evaluation."""

from pydantic import Field

from thesis_rec.base.settings import Seed
from thesis_rec.evaluation.quadrant_evaluation import EvaluationSettings


class EvaluationParameters(EvaluationSettings):
    """What ``conf/base/parameters/evaluation.yml`` holds; each knob is explained there."""

    protocol: str = "linear_probe"
    max_tasks: int | None = Field(default=None, ge=1)
    seed: Seed = 0
