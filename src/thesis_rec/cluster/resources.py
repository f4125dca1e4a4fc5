"""What a job asks the cluster for."""

from pydantic import Field

from thesis_rec.base.settings import Settings


class Resources(Settings):
    """Resources of one job; every field maps to one option of ``sbatch``."""

    partition: str = ""
    account: str = ""
    cpus: int = Field(default=4, ge=1)
    memory_gb: int = Field(default=16, ge=1)
    minutes: int = Field(default=60, ge=1)
    gpus: int = Field(default=0, ge=0)
    nodes: int = Field(default=1, ge=1)


class Cluster(Settings):
    """The ``cluster`` section of an environment.

    Attributes:
        needs_account: Whether jobs without an account are refused there.
        min_free_gb: Free space on the disk of ``data_root`` below which nothing is submitted.
        max_array_size: Longest job array the cluster accepts (``scontrol show config``, ``MaxArraySize``).
        default: Resources of pipelines that have no entry of their own.
        join: What jobs that join an array ask for; unset fields are those of ``default``. They read small tables.
        pipelines: Resources by pipeline name; unset fields are those of ``default``.
    """

    needs_account: bool = True
    min_free_gb: float = Field(default=10.0, ge=0)
    max_array_size: int = Field(default=1000, ge=1)
    default: Resources = Resources()
    join: dict[str, str | int] = Field(default_factory=dict)
    pipelines: dict[str, dict[str, str | int]] = Field(default_factory=dict)

    def resources(self, pipeline: str, joining: bool = False) -> Resources:
        """Resources of one pipeline's jobs, or of the job that joins its array."""
        own = self.join if joining else self.pipelines.get(pipeline, {})
        return Resources(**{**self.default.model_dump(), **own})
