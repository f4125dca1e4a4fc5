"""Parameters of the pipeline evaluation."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ProbingParameters(BaseModel):
    """How active probing is simulated; see :class:`thesis_rec.evaluation.probing_simulation.ProbingSettings`."""

    model_config = ConfigDict(extra="forbid")

    counts: tuple[int, ...] = (1, 3, 6, 12, 25)
    shares: tuple[float, ...] = (0.05, 0.1)
    probe_cost: float = Field(default=1.0, gt=0)
    cheap: str = "logme"
    repeats: int = Field(default=3, ge=1)
    draws: int = Field(default=10, ge=1)


class EvaluationParameters(BaseModel):
    """What ``conf/base/parameters/evaluation.yml`` holds; each knob is explained there."""

    model_config = ConfigDict(extra="forbid")

    protocol: str = "linear_probe"
    baselines: tuple[str, ...]
    transferability: tuple[str, ...]
    max_tasks: int | None = Field(default=None, ge=1)
    draws: int = Field(default=20, ge=1)
    bootstrap: int = Field(default=2000, ge=10)
    probing: ProbingParameters = Field(default_factory=ProbingParameters)
    seed: int = 0
