"""Pre-trained networks as feature extractors, built by the libraries that published them.

Hub models and folders take one way: the files are located (and downloaded, at the pinned revision), checked by
:mod:`thesis_rec.models.plain_network`, and the library builds the network from the folder. Checkpoints in half
precision become float32.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from thesis_rec.base.errors import ItemError, ThesisRecError
from thesis_rec.models.backbone import Backbone, check_repeatable
from thesis_rec.models.library_loaders import load_detector_pack, load_open_clip, load_timm, load_transformers
from thesis_rec.models.model_manifest import ManifestRow
from thesis_rec.models.model_sources import locate
from thesis_rec.models.plain_network import open_network
from thesis_rec.models.preparation import Preparation
from thesis_rec.models.weight_files import check_folder

Loader = Callable[[ManifestRow, Path], Backbone]


def load_backbone(row: ManifestRow, root: Path, device: str = "cpu", cache: Path | None = None) -> Backbone:
    """Build a model with the library that the manifest names.

    Args:
        row: The model.
        root: Folder that relative sources refer to.
        device: Where the network is put, e.g. ``cpu`` or ``cuda``.
        cache: Folder of hub downloads; None for the hub library's own.

    Raises:
        ItemError: If the loader is unknown or has no network (``local``), the files are absent, damaged or unsafe, or
            the library can't build the network from them.
    """
    if row.loader == "local":
        text = "The loader local reads weights only: there is no network to run."
        hint = "Save the model in the format of timm, transformers or open_clip to use it as a feature extractor."
        raise ItemError(row.model_id, text, hint)
    loader = LOADERS.get(row.loader)
    if loader is None:
        known = ", ".join(sorted([*LOADERS, "local"]))
        raise ItemError(row.model_id, f"The loader {row.loader!r} is unknown.", f"Choose one of {known}.")
    folder = locate(row, root, cache, build=True)
    if not folder.is_dir() and row.loader not in BARE:
        raise ItemError(
            row.model_id,
            f"{folder} is a file, but the loader {row.loader} builds a network from a folder with its configuration.",
            "Name the folder in the source column, or choose the loader local.",
        )
    # Opening checks the weights before a library meets them; hardly more than headers is read.
    open_network(folder, row.model_id, prefer=row.loader, member=row.member)
    if folder.is_dir():
        check_folder(folder, row.model_id)
    try:
        backbone = loader(row, folder)
        check_repeatable(backbone)
    except ThesisRecError:
        raise
    except Exception as error:
        # Three libraries raise anything at all for a configuration that they can't use.
        reason = " ".join(str(error).split())[:300]
        raise ItemError(
            row.model_id,
            f"{row.loader} can't build the network ({type(error).__name__}: {reason}).",
            "Check that the configuration belongs to the weights and that the loader column is right.",
        ) from error
    backbone.network.to(device)
    return backbone


def load_bare(row: ManifestRow, path: Path) -> Backbone:
    """A network of this project's own :mod:`~thesis_rec.models.architectures` from a bare state dict.

    Raises:
        ItemError: If the state dict is of another architecture.
    """
    import torch

    from thesis_rec.models.architectures import ARCHITECTURES

    architecture = ARCHITECTURES[row.loader]
    reader = open_network(path, row.model_id, member=row.member)
    state = {
        tensor.name.removeprefix(architecture.prefix): torch.tensor(reader.values(tensor)).view(tensor.shape)
        for tensor in reader.tensors
        if tensor.name.startswith(architecture.prefix)
    }
    try:
        network: Any = architecture.build(state)
        missing, unexpected = network.load_state_dict(state, strict=False)
    except (KeyError, RuntimeError, ValueError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())[:200]
        text = f"The weights are not those of a {row.loader} network ({reason})."
        raise ItemError(row.model_id, text, "Correct the loader column, or choose local.") from error
    # How many batches a normalisation has seen is a counter, not a weight, and of no use here.
    absent = [name for name in missing if not name.endswith("num_batches_tracked")]
    if absent or unexpected:
        text = f"The weights are not those of a {row.loader} network ({[*absent, *unexpected][0]} doesn't fit)."
        raise ItemError(row.model_id, text, "Correct the loader column, or choose local.")
    network.eval()
    size = architecture.input_size(state)
    preparation = Preparation(size, size, "stretch", mean=architecture.mean, std=architecture.std)
    return Backbone(row.model_id, network, network.features, getattr(network, "head", None), preparation)


#: Loaders whose source may be a weight file alone: they need no configuration.
BARE = ("cifar_resnet", "conv4", "espnetv2", "dicenet")

#: Loaders by the manifest's ``loader`` column. A new one is a function from a row and a checked folder to a backbone.
LOADERS: dict[str, Loader] = {
    "timm": load_timm,
    "transformers": load_transformers,
    "open_clip": load_open_clip,
    "detector_pack": load_detector_pack,
    **dict.fromkeys(BARE, load_bare),
}
