"""What the earlier thesis code left behind: vectors, embeddings and tokens as NPZ files, and its networks."""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import ItemError, explained
from thesis_rec.base.files import decode_id, load_arrays
from thesis_rec.base.tables import VECTOR_LENGTH


def import_arrays(folder: Path) -> tuple[dict[str, dict[str, NDArray[Any]]], pd.DataFrame, dict[str, dict[str, Any]]]:
    """NPZ files: vectors (``parameters``), embeddings (``embedding``), tokens (``features``).

    A file may hold any of the three. Tokens may be (C, D), (B, C, D) or (N, D) and become shards (B, C, D),
    L2-normalised; their class names are read from ``class_names`` or ``labels`` where there are any. Files directly in
    the folder are named by the model or dataset; deeper ones are token shards as ``<dataset>/<split>/<shard>.npz``.

    Args:
        folder: Folder with NPZ files.

    Returns:
        Vectors by model, in the form of ``model_vectors``; embeddings as ``model_embeddings`` (empty without any);
        token shards by ``<dataset>/<split>/<number>``.

    Raises:
        ItemError: If the folder holds no such file, or a file is of another shape.
    """
    vectors: dict[str, dict[str, NDArray[Any]]] = {}
    embeddings: dict[str, NDArray[np.float32]] = {}
    shards: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(folder.rglob("*.npz")):
        arrays = _arrays(path)
        # Ends of file names that the thesis code put behind a model's name.
        name = re.sub("(_model_extracted)?(_embedding)?$", "", decode_id(path.stem))
        if "parameters" in arrays:
            vectors[name] = _vector(arrays["parameters"], path)
        if "embedding" in arrays:
            code = np.asarray(arrays["embedding"], dtype=np.float32).ravel()
            if not code.size or not np.isfinite(code).all():
                raise ItemError(str(path), "has an embedding that is empty or not finite.", "Extract the model again.")
            embeddings[name] = code
        if "features" in arrays:
            place = path.relative_to(folder).parts
            key = (place[-3], place[-2]) if len(place) >= 3 else (name, "train")
            shards.setdefault(key, []).append(_shard(arrays, path))
    if not (vectors or embeddings or shards):
        raise ItemError(str(folder), "holds no NPZ file with parameters, embedding or features.", "Check the folder.")
    return vectors, embeddings_table(embeddings, str(folder)), _numbered(shards)


def embeddings_table(embeddings: Mapping[str, NDArray[np.float32]], where: str) -> pd.DataFrame:
    """Embeddings as ``model_embeddings``.

    Raises:
        ItemError: If they differ in length.
    """
    lengths = {len(code) for code in embeddings.values()}
    if len(lengths) > 1:
        raise ItemError(where, f"has embeddings of lengths {sorted(lengths)}.", "Embed all models alike.")
    table = pd.DataFrame(np.stack(list(embeddings.values())) if embeddings else np.zeros((0, 1), np.float32))
    table.columns = [f"e{i:03d}" for i in range(table.shape[1])]
    table.insert(0, "model_id", pd.Series(list(embeddings), dtype="string"))
    return table


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """What a file holds of models and datasets; pickled names are never unpickled, and left out."""
    with explained(str(path), "can't be read ({reason}).", "Write it anew with numpy.savez."):
        arrays = load_arrays(path, "parameters", "embedding", "features")
    for name in ("encoder_id", "class_names", "labels"):
        with suppress(ValueError):  # each for itself: where one is pickled another may say the same
            arrays |= load_arrays(path, name)
    return arrays


def _vector(values: NDArray[Any], path: Path) -> dict[str, NDArray[Any]]:
    vector = np.asarray(values, dtype=np.float32).ravel()
    if len(vector) > VECTOR_LENGTH or not np.isfinite(vector).all() or not vector.any():
        raise ItemError(
            str(path), f"has parameters that aren't a finite vector of {VECTOR_LENGTH}.", "Extract the model again."
        )
    padded = np.pad(vector, (0, VECTOR_LENGTH - len(vector)))
    # How many weights the model had isn't in the file.
    return {"parameters": padded, "n_parameters": np.array(0), "sha256": np.array("")}


def _shard(arrays: Mapping[str, NDArray[Any]], path: Path) -> dict[str, Any]:
    features = np.asarray(arrays["features"], dtype=np.float32)
    if features.ndim == 2:
        features = features[None]
    if features.ndim != 3 or not features.size or not np.isfinite(features).all():
        raise ItemError(str(path), f"has features of shape {features.shape}.", "Give (batches, classes, dimensions).")
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    if (length == 0).any():
        raise ItemError(str(path), "has a feature that is all zero.", "Encode the dataset again.")
    classes = features.shape[1]
    found = next((arrays[key] for key in ("class_names", "labels") if key in arrays), None)
    names = [str(name) for name in np.asarray(found).ravel()] if found is not None else []
    if len(names) != classes:
        names = [f"class {i}" for i in range(classes)]
    return {
        "features": (features / length).astype(np.float16),
        "class_ids": np.arange(classes, dtype=np.int64),
        "class_names": np.array(names),
        "n_images": np.int64(features.shape[0] * classes),
        "encoder_id": np.array(str(arrays["encoder_id"]) if "encoder_id" in arrays else "imported"),
        "settings_hash": np.array("imported"),
    }


def _numbered(shards: Mapping[tuple[str, str], list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Shards by ``<dataset>/<split>/<number>``, each knowing how many there are and of how many images."""
    from thesis_rec.views.tokens import shard_key

    found = {}
    for (dataset, split), parts in shards.items():
        n_images = np.int64(sum(int(part["n_images"]) for part in parts))
        for number, part in enumerate(parts):
            counted = {"n_images": n_images, "shard": np.int64(number), "n_shards": np.int64(len(parts))}
            found[shard_key(dataset, split, number)] = part | counted
    return found


def import_autoencoder(
    path: Path, vectors: Mapping[str, Mapping[str, NDArray[Any]]], activation: str = "relu", normalise: bool = True
) -> dict[str, Any]:
    """A trained autoencoder of the thesis code, from the ``.pt`` file of its state dict.

    The file names neither the activation nor the statistics by which vectors were standardised: the first is in
    ``config.ini``, the second are those of the vectors that it was trained on. Our network clips standardised values at
    ten scales, the thesis code didn't; with fewer than a hundred models no value is that far out.

    Args:
        path: File; read without running anything in it.
        vectors: The models' vectors that it was trained on.
        activation: ``gelu``, ``relu`` or ``leaky_relu``.
        normalise: Whether it was trained on standardised vectors.

    Returns:
        An autoencoder checkpoint: ``config`` and ``network``; without the decoder where it doesn't mirror the encoder.

    Raises:
        ItemError: If the file is unsafe, damaged or of another network, or there are no vectors to standardise by.
    """
    import torch

    item, state = str(path), _state(path)
    encoder, decoder = _linear_layers(state, "encoder"), _linear_layers(state, "decoder")
    widths = _widths(encoder)
    if not widths:
        raise ItemError(item, "is no autoencoder of the thesis code.", "Give the .pt file of its state dict.")
    mean, scale = torch.zeros(widths[0]), torch.ones(widths[0])
    if normalise:
        if not vectors:
            hint = "Name the folder of the NPZ files with `parameters` that it was trained on as `arrays`."
            raise ItemError(item, "there are no vectors by which its input was standardised.", hint)
        stacked = np.stack([np.asarray(vector["parameters"], dtype=np.float64) for vector in vectors.values()])
        if stacked.shape[1] != widths[0]:
            error = f"takes vectors of {widths[0]}, but the folder's have {stacked.shape[1]}."
            raise ItemError(item, error, "Give the vectors that it was trained on.")
        mean = torch.tensor(stacked.mean(0), dtype=torch.float32)
        scale = torch.tensor(np.maximum(stacked.std(0), 1e-6), dtype=torch.float32)
    network = {"mean": mean, "scale": scale}
    halves = {"encoder": encoder} | ({"decoder": decoder} if _widths(decoder) == widths[::-1] else {})
    for half, layers in halves.items():
        for place, (weight, bias) in enumerate(layers):
            # Here each hidden layer is followed by its activation and a dropout.
            network[f"{half}.{3 * place}.weight"] = weight.float()
            network[f"{half}.{3 * place}.bias"] = bias.float()
    config = {"n_inputs": widths[0], "hidden": widths[1:-1], "n_code": widths[-1], "activation": activation}
    return {"config": config | {"dropout": 0.0}, "network": network}


def with_embedded(
    embeddings: pd.DataFrame, vectors: Mapping[str, Mapping[str, NDArray[Any]]], checkpoint: Mapping[str, Any]
) -> pd.DataFrame:
    """Embeddings, and those that an autoencoder makes of the vectors that have none."""
    from thesis_rec.models.auto_encoder import embed_vectors

    there = dict(zip(embeddings["model_id"], embeddings.drop(columns="model_id").to_numpy(np.float32), strict=True))
    lacking = [name for name in vectors if name not in there]
    if lacking:
        codes = embed_vectors(checkpoint, np.stack([vectors[name]["parameters"] for name in lacking]))
        there |= dict(zip(lacking, codes, strict=True))
    return embeddings_table(there, "the imported autoencoder")


def import_transformer(
    path: Path, embeddings: pd.DataFrame, shards: Mapping[str, Mapping[str, Any]], n_heads: int = 8
) -> pd.DataFrame:
    """What a trained similarity transformer of the thesis code says of imported models and datasets.

    Args:
        path: The ``.pt`` file of its state dict; read without running anything in it.
        embeddings: Imported embeddings, in the order of training where the network has one output per model.
        shards: Imported token shards.
        n_heads: Attention heads, ``transformer_heads`` in ``config.ini``.

    Returns:
        ``dataset_id, model_id, score, rank, source``: the higher the score, the better, rank 1 first. Scores are no
        performance and are compared within a dataset only.

    Raises:
        ItemError: If the file is unsafe, damaged or of another network, or doesn't fit embeddings or tokens.
    """
    import torch

    from thesis_rec.thesis.thesis_transformer import ThesisTransformer

    item, state = str(path), _state(path)
    try:
        network = ThesisTransformer(state, n_heads)
    except (KeyError, RuntimeError, ValueError) as error:
        text = f"is no similarity transformer of the thesis code ({' '.join(str(error).split())[:120]})."
        raise ItemError(item, text, "Give the .pt file of its state dict, and its number of heads.") from error
    if embeddings.empty or not shards:
        raise ItemError(item, "needs embeddings and tokens to score.", "Name their folder as `arrays`.")
    codes = torch.tensor(embeddings.drop(columns="model_id").to_numpy(dtype=np.float32))
    if codes.shape[1] != network.model_dim:
        reason = f"takes embeddings of {network.model_dim}, the folder's have {codes.shape[1]}."
        raise ItemError(item, reason, "Give the embeddings that it was trained on.")
    if network.n_outputs not in (None, len(codes)):
        reason = f"gives one score for each of {network.n_outputs} models, but there are {len(codes)} embeddings."
        raise ItemError(item, reason, "Give the embeddings that it was trained on, and no others.")
    batches: dict[str, list[NDArray[Any]]] = {}
    for key, shard in shards.items():
        batches.setdefault(key.rsplit("/", 2)[0], []).append(np.asarray(shard["features"], dtype=np.float32))
    tables = []
    for dataset_id, parts in batches.items():
        tokens = torch.tensor(np.concatenate(parts))
        if tokens.shape[-1] != network.token_dim:
            reason = f"takes tokens of {network.token_dim}, those of {dataset_id} have {tokens.shape[-1]}."
            raise ItemError(item, reason, "Give tokens of the encoder that it was trained with.")
        scores = network(codes, tokens).double().numpy()
        tables.append(pd.DataFrame({"dataset_id": dataset_id, "model_id": embeddings["model_id"], "score": scores}))
    table = pd.concat(tables, ignore_index=True)
    ranks = table.groupby("dataset_id")["score"].rank(ascending=False, method="first").astype("int64")
    return table.assign(rank=ranks, source="thesis")


def _state(path: Path) -> dict[str, Any]:
    """Tensors of a state dict by name; nothing in the file is run."""
    from thesis_rec.models.weight_files import find_state, load_torch

    return {str(name): tensor for name, tensor in find_state(load_torch(path, str(path)), str(path))[0].items()}


def _linear_layers(state: Mapping[str, Any], half: str) -> list[tuple[Any, Any]]:
    places = sorted(int(match[1]) for name in state if (match := re.fullmatch(rf"{half}\.(\d+)\.weight", name)))
    return [
        (state[f"{half}.{i}.weight"], state[f"{half}.{i}.bias"])
        for i in places
        if f"{half}.{i}.bias" in state and state[f"{half}.{i}.weight"].ndim == 2
    ]


def _widths(layers: list[tuple[Any, Any]]) -> list[int]:
    return [int(layers[0][0].shape[1]), *(int(weight.shape[0]) for weight, _ in layers)] if layers else []
