"""PyTorch files from strangers: read without running their code, refused where they are bombs."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thesis_rec.base.errors import ItemError
from thesis_rec.models.weight_files import DOWNLOAD_AGAIN

_NESTED = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")

# An archive may unpack to this many times its size (weights hardly compress), plus an allowance for tiny files.
_MAX_UNPACKED_RATIO = 10
_UNPACKED_ALLOWANCE = 1 << 20


def load_torch(file: Path, item: str) -> Any:
    """What a PyTorch file holds, without running any code of it; tensors stay on disk until they are used.

    Raises:
        ItemError: If it holds more than plain data, is damaged, or unpacks to much more than its size.
    """
    import torch

    try:
        with file.open("rb") as opened:
            archive = opened.read(4) == b"PK\x03\x04"
        if archive:
            _check_archive(file, item)
        # Files older than PyTorch 1.6 are no archives and can't be mapped.
        return torch.load(file, map_location="cpu", weights_only=True, mmap=archive)
    except ItemError:
        raise
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "Weights only" in str(error):
            reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "nsupported" in line), "")
            text = f"{file.name} holds pickled code besides weights, and was refused. {reason[:200]}".strip()
            hint = "If you trust its origin, load it where it was made and save model.state_dict() alone."
            raise ItemError(item, text, hint) from error
        raise ItemError(
            item, f"{file.name} is no PyTorch checkpoint, or it is damaged ({error}).", DOWNLOAD_AGAIN
        ) from error
    except Exception as error:
        # The unpickler meets arbitrary bytes here, and fails in as many ways as there are bytes.
        reason = str(error).strip().split("\n", 1)[0][:200]
        text = f"{file.name} is truncated or no PyTorch checkpoint ({type(error).__name__}: {reason})."
        raise ItemError(item, text, DOWNLOAD_AGAIN) from error


def _check_archive(file: Path, item: str) -> None:
    size = file.stat().st_size
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ItemError(item, f"{file.name} is truncated or damaged ({error}).", DOWNLOAD_AGAIN) from error
    if unpacked > _MAX_UNPACKED_RATIO * size + _UNPACKED_ALLOWANCE:
        text = f"{file.name} has {size:,} bytes but would unpack to {unpacked:,}: a decompression bomb, refused."
        raise ItemError(item, text, "Don't use this file.")


def state_dict_of(content: Any, item: str) -> Mapping[str, Any]:
    """The state dict within a training checkpoint, where it may lie under ``state_dict``, ``model`` and the like.

    Raises:
        ItemError: If there is none.
    """
    import torch

    for _ in range(len(_NESTED)):
        if not isinstance(content, Mapping):
            break
        inner = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not any(isinstance(value, torch.Tensor) for value in content.values()):
        raise ItemError(item, "The file holds no state dict (tensors by name).", "Save model.state_dict() instead.")
    return content
