"""One's own artefact if there is one, else the one that came with the project."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from kedro.io import AbstractDataset, DatasetError

logger = logging.getLogger(__name__)


class FirstExistingDataset(AbstractDataset[Any, Any]):
    """Loads the first of several datasets that exists, and says which; saves to the first of all.

    Example:
        .. code-block:: yaml

            ranker_checkpoint:
              type: thesis_rec.catalog.FirstExistingDataset
              datasets:
                own:
                  type: thesis_rec.catalog.CheckpointDataset
                  filepath: data/06_models/similarity.pt
                starter:
                  type: thesis_rec.catalog.CheckpointDataset
                  filepath: data/01_raw/starter/bundle/similarity.pt

    Args:
        datasets: Named dataset configurations in order of preference. A list is taken too and named by position; a
            mapping is better, because Kedro makes its relative paths absolute.
        metadata: Read by kedro-viz.

    Attributes:
        chosen: Name of the dataset that the last load took, or None.
    """

    def __init__(
        self,
        *,
        datasets: Mapping[str, dict[str, Any] | AbstractDataset[Any, Any]]
        | Sequence[dict[str, Any] | AbstractDataset[Any, Any]],
        metadata: dict[str, Any] | None = None,
    ) -> None:
        named = datasets if isinstance(datasets, Mapping) else {str(i): entry for i, entry in enumerate(datasets)}
        if not named:
            raise DatasetError("a first-existing dataset needs at least one dataset")
        self._datasets = {
            name: entry if isinstance(entry, AbstractDataset) else AbstractDataset.from_config(name, dict(entry))
            for name, entry in named.items()
        }
        self.metadata = metadata
        self.chosen: str | None = None

    def _first(self) -> str | None:
        return next((name for name, dataset in self._datasets.items() if dataset.exists()), None)

    def load(self) -> Any:
        """Load the first dataset that exists.

        Raises:
            DatasetError: If none does.
        """
        self.chosen = self._first()
        if self.chosen is None:
            tried = "; ".join(f"{name}: {dataset}" for name, dataset in self._datasets.items())
            raise DatasetError(f"none of these exists: {tried}")
        dataset = self._datasets[self.chosen]
        logger.info("reading %s (%s)", self.chosen, dataset._describe().get("filepath", dataset))
        return dataset.load()

    def save(self, data: Any) -> None:
        """Save to the most preferred dataset."""
        next(iter(self._datasets.values())).save(data)

    def _describe(self) -> dict[str, Any]:
        return {"datasets": {name: dataset._describe() for name, dataset in self._datasets.items()}}

    def _exists(self) -> bool:
        return self._first() is not None

    def _release(self) -> None:
        for dataset in self._datasets.values():
            dataset.release()
