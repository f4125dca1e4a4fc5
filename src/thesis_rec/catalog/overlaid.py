"""Several datasets of one kind, of which the later ones count where both say something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro.utils import load_obj


class OverlaidDataset(AbstractDataset[Any, Any]):
    """What came with a zoo with one's own measurements laid over it, as far as either exists.

    Example:
        ::

            model_responses:
              type: thesis_rec.catalog.OverlaidDataset
              combine: thesis_rec.truth.responses.overlay_responses
              datasets:
                zoo:
                  type: thesis_rec.catalog.NPZDataset
                  filepath: data/01_raw/starter/model_responses.npz
                own:
                  type: thesis_rec.catalog.NPZDataset
                  filepath: data/03_primary/model_responses.npz

    Args:
        datasets: Named dataset configurations, the most trusted last. Named, because Kedro makes relative paths of
            mappings absolute and doesn't look into lists.
        combine: Dotted name of a function from the list of what exists, possibly empty, to what is loaded.
        metadata: Ignored by Kedro; read by kedro-viz.
    """

    def __init__(
        self, *, datasets: Mapping[str, dict[str, Any]], combine: str, metadata: dict[str, Any] | None = None
    ) -> None:
        self._datasets = {name: AbstractDataset.from_config(name, dict(entry)) for name, entry in datasets.items()}
        self._combine = combine
        self.metadata = metadata

    def load(self) -> Any:
        """Load what exists and combine it."""
        return load_obj(self._combine)([dataset.load() for dataset in self._datasets.values() if dataset.exists()])

    def save(self, data: Any) -> None:
        """Refuse: its parts are written under their own names.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(f"{', '.join(self._datasets)}: this is read, never written.")

    def _exists(self) -> bool:
        # Nothing at all is an answer too: the zoo has no such measurements.
        return True

    def _describe(self) -> dict[str, Any]:
        return {
            "datasets": {name: dataset._describe() for name, dataset in self._datasets.items()},
            "combine": self._combine,
        }
