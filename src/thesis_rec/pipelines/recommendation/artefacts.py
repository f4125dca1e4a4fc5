"""One's own artefacts if they are complete, else those that came with the project."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

logger = logging.getLogger(__name__)

#: What a ranker can't do without: embeddings and tokens of the spaces that it was trained in.
NEEDED = ("similarity_checkpoint", "model_embeddings", "dataset_tokens", "performance")


class ArtefactsDataset(AbstractDataset[Any, dict[str, Any]]):
    """The artefacts that a recommendation reads, as a dictionary by name.

    Embeddings, tokens and ranker belong together: a ranker means nothing in another autoencoder's space. So one's own
    are taken only when all of ``NEEDED`` are there, otherwise the shipped bundle; other artefacts (hardware profiles,
    vectors of models that were added since) are taken wherever they exist.

    Args:
        own: Dataset configurations by name.
        starter: ``path`` of the folder of the bundle that came with the project.
        metadata: Read by kedro-viz.
    """

    def __init__(
        self, *, own: Mapping[str, dict[str, Any]], starter: dict[str, str], metadata: dict[str, Any] | None = None
    ) -> None:
        self._own = {name: _dataset(name, entry) for name, entry in own.items()}
        self._starter = Path(starter["path"])
        self.metadata = metadata

    def load(self) -> dict[str, Any]:
        """Artefacts by name; ``stored`` is the shipped bundle, or None when one's own are taken.

        Raises:
            ConfigurationError: If neither is complete.
        """
        from thesis_rec.recommendation.stored_bundle import read_bundle

        found = {name: data for name in self._own if (data := self._present(name)) is not None}
        missing = [name for name in NEEDED if name not in found]
        if not missing:
            logger.info("recommending with the artefacts of one's own runs")
            return {**found, "stored": None}
        if len(missing) < len(NEEDED):
            logger.info("one's own artefacts lack %s: recommending with those of the project", ", ".join(missing))
        found = {name: data for name, data in found.items() if name not in NEEDED}
        return {**found, "stored": read_bundle(self._starter)}

    def _present(self, name: str) -> Any:
        """An artefact, or None: partitions may be there although some datasets failed, so that asking isn't enough."""
        try:
            data = self._own[name].load()
        except DatasetError:
            return None
        return None if isinstance(data, dict) and not data else data

    def save(self, data: Any) -> None:
        """Nothing saves to it.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError("artefacts are written by the pipelines that make them")

    def _describe(self) -> dict[str, Any]:
        return {"own": {name: str(dataset) for name, dataset in self._own.items()}, "starter": str(self._starter)}

    def _exists(self) -> bool:
        own = all(name in self._own and self._present(name) is not None for name in NEEDED)
        return own or self._starter.is_dir()

    def _release(self) -> None:
        for dataset in self._own.values():
            dataset.release()


def _dataset(name: str, entry: dict[str, Any] | AbstractDataset[Any, Any]) -> AbstractDataset[Any, Any]:
    if isinstance(entry, AbstractDataset):
        return entry
    # The entry of the catalog as it stands there; its validator is the catalog's business.
    return AbstractDataset.from_config(name, {key: value for key, value in entry.items() if key != "validator"})


def validate_artefacts(data: Any) -> None:
    """One's own artefacts are complete, or the shipped bundle is there.

    Raises:
        ValueError: If neither.
    """
    if not isinstance(data, dict) or "stored" not in data:
        raise ValueError("artefacts are a dictionary with the key 'stored'")
    if data["stored"] is None and (missing := [name for name in NEEDED if name not in data]):
        raise ValueError(f"artefacts lack {', '.join(missing)}")
