"""One's own artefacts and those that came with the project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError


class ArtefactsDataset(AbstractDataset[Any, dict[str, Any]]):
    """The artefacts that a recommendation reads, as a dictionary by name.

    Which of both counts is decided item by item where they are joined,
    :func:`thesis_rec.recommendation.bundle.assemble`.

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
        """Artefacts by name; ``stored`` is the shipped bundle, or None where there is none.

        Raises:
            ConfigurationError: If there is none and one's own aren't complete.
        """
        from thesis_rec.base.errors import ConfigurationError
        from thesis_rec.recommendation.bundle import NEEDED, read_bundle

        found = {name: data for name in self._own if (data := self._present(name)) is not None}
        try:
            return {**found, "stored": read_bundle(self._starter)}
        except ConfigurationError:
            if any(name not in found for name in NEEDED):
                raise
            return {**found, "stored": None}

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
        from thesis_rec.recommendation.bundle import NEEDED

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
    from thesis_rec.recommendation.bundle import NEEDED

    if not isinstance(data, dict) or "stored" not in data:
        raise ValueError("artefacts are a dictionary with the key 'stored'")
    if data["stored"] is None and (missing := [name for name in NEEDED if name not in data]):
        raise ValueError(f"artefacts lack {', '.join(missing)}")
