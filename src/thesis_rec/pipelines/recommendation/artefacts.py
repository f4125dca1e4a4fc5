"""One's own artefacts and those that came with the project."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.catalog.files import CheckpointDataset, ReadDataset
from thesis_rec.recommendation.bundle import NEEDED, read_bundle


class ArtefactsDataset(ReadDataset):
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
        # Entries of the catalog as they stand there; their validators are the catalog's business.
        plain = {name: {key: entry[key] for key in entry if key != "validator"} for name, entry in own.items()}
        self._own = {name: AbstractDataset.from_config(name, entry) for name, entry in plain.items()}
        self._starter = Path(starter["path"])
        self.metadata = metadata

    def load(self) -> dict[str, Any]:
        """Artefacts by name; ``stored`` is the shipped bundle, or None where there is none; ``notes`` on damaged ones.

        Raises:
            ConfigurationError: If there is none and one's own aren't complete.
        """
        found, notes = self._own_ones()
        try:
            stored = read_bundle(self._starter)
        except ConfigurationError as error:
            if any(name not in found for name in NEEDED):
                raise
            stored = None
            notes += [f"{error} What your own runs made answers."] * self._starter.is_dir()
        return {**found, "stored": stored, "notes": notes}

    def _own_ones(self) -> tuple[dict[str, Any], list[str]]:
        """What is there by name, and notes on what is damaged.

        Partitions may be there although some datasets failed, so that asking whether a dataset exists isn't enough.
        """
        found, notes = dict[str, Any](), list[str]()
        for name, dataset in self._own.items():
            # Like a partition: read only where it is needed, as it takes torch.
            if isinstance(dataset, CheckpointDataset):
                found |= {name: dataset.load} if dataset.exists() else {}
                continue
            try:
                data = dataset.load()
            except DatasetError as error:
                # Absent files have no cause, and are nothing to tell.
                if error.__cause__ is not None:
                    notes.append(f"{' '.join(str(error).split())} Left out until then; the answer rests on the others.")
                continue
            if not isinstance(data, dict) or data:
                found[name] = data
        return found, notes

    def _describe(self) -> dict[str, Any]:
        return {"own": {name: str(dataset) for name, dataset in self._own.items()}, "starter": str(self._starter)}

    def _exists(self) -> bool:
        return self._starter.is_dir() or set(NEEDED) <= set(self._own_ones()[0])
