"""Parameters of the pipeline import_artefacts."""

from typing import Literal, Self

from pydantic import Field, model_validator

from thesis_rec.base.settings import Paths, Settings


class ImportArtefactsParameters(Settings):
    """What ``conf/base/parameters/import_artefacts.yml`` holds; each knob is explained there."""

    arrays: Paths = ()
    thesis_performance: Paths = ()
    thesis_similarity: Paths = ()
    thesis_autoencoder: str | None = None
    thesis_activation: Literal["gelu", "relu", "leaky_relu"] = "relu"
    thesis_normalised: bool = True
    thesis_transformer: str | None = None
    thesis_heads: int = Field(default=8, ge=1)
    transfergraph: Paths = ()
    timm_results: Paths = ()
    wide_tables: Paths = ()
    unit: Literal["auto", "fraction", "percent"] = "auto"
    strict: bool = Field(default=False)

    @model_validator(mode="after")
    def _similarities_belong_to_performance(self) -> Self:
        given, needed = len(self.thesis_similarity), len(self.thesis_performance)
        if given not in (0, needed):
            raise ValueError(f"thesis_similarity names {given} files, thesis_performance {needed}: give one for each")
        return self

    @property
    def named(self) -> list[str]:
        """The files and folders to import."""
        files = (self.thesis_performance, self.thesis_similarity, self.transfergraph, self.timm_results)
        networks = filter(None, (self.thesis_autoencoder, self.thesis_transformer))
        return [name for names in (*files, self.wide_tables, self.arrays, networks) for name in names]
