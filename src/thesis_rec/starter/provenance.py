"""Where the embedded zoo comes from: the record beside it, checking files against it, and rebuilding from it."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_rec.base.errors import ItemError
from thesis_rec.base.files import sha256_file
from thesis_rec.models.model_sources import PROVENANCE_FILE, check_file

if TYPE_CHECKING:
    from torch import nn


_LIBRARIES = ("torch", "timm", "transformers", "open_clip_torch", "numpy", "scikit-learn", "safetensors")


@dataclass(frozen=True)
class Provenance:
    """The record of a zoo.

    Attributes:
        content: The whole record: ``seed``, ``versions``, ``device``, ``models`` (recipe, classes, final loss and
            seconds of each), ``clip``, ``truth``, ``unknown``, ``reference_tasks`` and ``files`` (SHA-256 by path).
    """

    content: dict[str, Any] = field(hash=False)

    @classmethod
    def read(cls, root: Path) -> Provenance:
        """Read the record of a zoo's folder.

        Raises:
            ItemError: If there is none, or it can't be read.
        """
        path = root / PROVENANCE_FILE
        hint = "Restore the folder of the embedded zoo from the repository."
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ItemError(str(path), "The zoo has no provenance record.", hint) from error
        except ValueError as error:
            raise ItemError(str(path), "The provenance record is not JSON.", hint) from error
        return cls(content)

    def recipe(self, model_id: str) -> Any:
        """The recipe of a model (``thesis_rec.starter.recipes.ModelRecipe``).

        Raises:
            ItemError: If there is no such model.
        """
        from thesis_rec.starter.recipes import ModelRecipe

        return ModelRecipe.from_dict(self._model(model_id)["recipe"])

    def class_names(self, model_id: str) -> list[str]:
        """Names of the outputs of a model's source head."""
        return list(self._model(model_id)["class_names"])

    def _model(self, model_id: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.content["models"][model_id]
        except KeyError as error:
            raise ItemError(model_id, "The zoo has no such model.", "See model_manifest.csv for its models.") from error
        return found


def verify_files(root: Path, names: Iterable[str] | None = None, content: Mapping[str, Any] | None = None) -> int:
    """Compare files with the hashes in the provenance record.

    Args:
        root: The zoo's folder.
        names: Files or folders relative to ``root``; all recorded files unless given.
        content: The record; read from ``root`` unless given.

    Returns:
        Number of files checked.

    Raises:
        ItemError: Naming the first file that is absent, changed or not recorded.
    """
    record: Mapping[str, str] = (content or Provenance.read(root).content)["files"]
    wanted = list(record) if names is None else _expand(record, names, root)
    for name in wanted:
        check_file(root, name, record[name])
    return len(wanted)


def _expand(record: Mapping[str, str], names: Iterable[str], root: Path) -> list[str]:
    found: list[str] = []
    for name in names:
        clean = name.strip("/")
        inside = [path for path in record if path == clean or path.startswith(clean + "/")]
        if not inside:
            raise ItemError(
                clean, "The file is not recorded in PROVENANCE.json.", f"Name a file or folder inside {root}."
            )
        found += inside
    return found


def hash_tree(root: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder by relative path, without the provenance record and hidden files."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != PROVENANCE_FILE)
    return {
        path.relative_to(root).as_posix(): sha256_file(path)
        for path in files
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    }


def environment(device: str) -> dict[str, Any]:
    """Versions of the libraries and the name of the device, for the record."""
    import torch

    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    cuda = torch.device(device).type == "cuda"
    name = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    return {"versions": versions, "device": {"kind": torch.device(device).type, "name": name}}


def rebuild_model(model_id: str, provenance: Provenance) -> nn.Module:
    """Train a model of the zoo again on the CPU, from its recipe alone.

    Args:
        model_id: Which one; those with few steps take seconds.
        provenance: The zoo's record.

    Returns:
        The network, mapping normalised images to source logits, in evaluation mode. Equal to the committed one up to
        the arithmetic of the device: about as near as a repeat with another seed, often nearer.
    """
    from thesis_rec.starter.painter import Painter
    from thesis_rec.starter.pretraining import Bank, train_recipes

    recipe = provenance.recipe(model_id)
    bank = Bank.of(Painter().pretraining(recipe.source.tasks, recipe.images_per_class))
    _, module, _ = next(train_recipes([recipe], bank))
    return module
