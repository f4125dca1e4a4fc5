"""How the weights of a model are found: one function per kind of source, looked up by the manifest's ``extractor``.

To add a kind, write a function of a row, the zoo's root folder and the folder of hub downloads that returns a
:class:`~thesis_rec.models.checkpoint_reader.StateReader`, and enter it in :data:`EXTRACTORS` under the value that the
manifest will name::

    def my_kind(row: ManifestRow, root: Path, cache: Path | None) -> StateReader:
        return open_network(locate(row, root, cache), row.model_id).select(lambda name: "extra" not in name)

Nothing else is needed: readers stream, so memory stays bounded by the largest tensor.
"""

from collections.abc import Callable
from pathlib import Path

from thesis_rec.base.errors import ItemError
from thesis_rec.models.checkpoint_reader import StateReader, open_network
from thesis_rec.models.model_manifest import ManifestRow
from thesis_rec.models.model_sources import locate
from thesis_rec.models.weight_files import find_weights

Extractor = Callable[[ManifestRow, Path, Path | None], StateReader]

#: What an empty ``extractor`` column means, by loader; ``huggingface`` for any other.
USUAL = {"timm": "timm", "open_clip": "open_clip", "detector_pack": "detector_pack", "local": "state_dict"}


def extractor_name(row: ManifestRow) -> str:
    """The extractor that a row names, or its loader's usual one."""
    return row.extractor or USUAL.get(row.loader, "huggingface")


def open_model(row: ManifestRow, root: Path, cache: Path | None = None) -> StateReader:
    """Reader of a model's weights.

    Args:
        row: The model.
        root: Folder that relative sources refer to.
        cache: Folder of hub downloads; None for the hub library's own.

    Raises:
        ItemError: If the extractor is unknown, or the weights are absent, damaged, unsafe or can't be downloaded.
    """
    name = extractor_name(row)
    if name not in EXTRACTORS:
        known = ", ".join(sorted(EXTRACTORS))
        raise ItemError(row.model_id, f"The extractor {name!r} is unknown.", f"Choose one of {known}.")
    return EXTRACTORS[name](row, root, cache)


def huggingface(row: ManifestRow, root: Path, cache: Path | None) -> StateReader:
    """All tensors of a model: one safetensors or PyTorch file, or shards with an index, as in the layout of the hub.

    A state dict may be bare or lie within a training checkpoint, and a file may hold several networks, as the ``.pt``
    packs of out-of-distribution detectors do; the manifest's column ``member`` says which one is meant.

    Raises:
        ItemError: If the file has several networks and ``member`` names none of them.
    """
    return open_network(locate(row, root, cache), row.model_id, member=row.member)


def siglip(row: ManifestRow, root: Path, cache: Path | None) -> StateReader:
    """The image half of a SigLIP or CLIP model of transformers; the text half says nothing about images."""
    reader = huggingface(row, root, cache)
    return reader.select(lambda name: not name.startswith(("text_model.", "text_projection", "logit_")))


def open_clip(row: ManifestRow, root: Path, cache: Path | None) -> StateReader:
    """The image half (``visual.``) of an open_clip model."""
    reader = open_network(locate(row, root, cache), row.model_id, prefer="open_clip", member=row.member)
    return reader.select(lambda name: name.startswith("visual."))


def safetensors(row: ManifestRow, root: Path, cache: Path | None) -> StateReader:
    """A plain safetensors file or index; for zoos that allow no other format.

    Raises:
        ItemError: If the weights are in another format.
    """
    file = find_weights(locate(row, root, cache), row.model_id)
    if ".safetensors" not in file.suffixes:
        raise ItemError(row.model_id, f"{file.name} is no safetensors file.", "Choose the extractor state_dict.")
    return open_network(file, row.model_id, member=row.member)


#: Extractors by the manifest's ``extractor`` column.
EXTRACTORS: dict[str, Extractor] = {
    **dict.fromkeys(("huggingface", "timm", "state_dict", "detector_pack"), huggingface),
    "siglip": siglip,
    "open_clip": open_clip,
    "safetensors": safetensors,
}
