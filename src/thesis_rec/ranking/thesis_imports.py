"""What the earlier thesis code left behind: accuracies, similarities, vectors, embeddings, tokens, trained networks.

The **proxy** of that code is no measurement: a model's accuracy on the dataset it was trained on, times a hand-entered
similarity of that dataset to the target, plus one where both are the same. It is offered for those who have nothing
else, under the protocol ``proxy``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.errors import ItemError
from thesis_rec.ranking.imports import records_frame, scale_of

#: Length of a model's vector in the thesis code.
VECTOR_LENGTH = 8192

#: Ends of file names that the thesis code put behind a model's name.
_NAME_ENDINGS = ("_embedding", "_model_extracted")

#: Keys under which an entry of the performance file may hold its model and its number.
_MODEL_KEYS = ("model_name", "model", "model_id")
_VALUE_KEYS = ("accuracy", "value", "performance", "similarity")


def import_thesis_performance(path: Path) -> pd.DataFrame:
    """``dataset_model_performance.json``: dataset -> list of ``{"model_name": ..., "accuracy": ...}``.

    A dataset may also hold an object, model -> accuracy (or object with ``accuracy``); values above 1.5 are percent.

    Raises:
        ItemError: If the file can't be read or holds something else.
    """
    rows = list(_pairs(_json(path), str(path)))
    scale = scale_of([value for *_, value in rows])
    scaled = [(model, dataset, value / scale) for dataset, model, value in rows]
    return records_frame(scaled, "imported:thesis", "accuracy", "thesis")


def read_similarity(path: Path) -> dict[str, dict[str, float]]:
    """``dataset_similarity.json``: target dataset -> dataset -> similarity 0..1.

    A pair that is given in one direction only holds in both; where both are given and differ, each keeps its own.

    Raises:
        ItemError: If a similarity is outside 0..1.
    """
    found: dict[str, dict[str, float]] = {}
    for first, second, value in _pairs(_json(path), str(path)):
        if not 0.0 <= value <= 1.0:
            raise ItemError(str(path), f"similarity of {first} and {second} is {value}.", "Similarities are 0..1.")
        found.setdefault(first, {})[second] = value
    given = {(_normalised(first), _normalised(second)) for first, row in found.items() for second in row}
    for first, row in list(found.items()):
        for second, value in list(row.items()):
            if (_normalised(second), _normalised(first)) not in given:
                found.setdefault(second, {})[first] = value
    return found


def proxy_performance(
    performance: pd.DataFrame, similarity: Mapping[str, Mapping[str, float]], source: str = "thesis"
) -> pd.DataFrame:
    """The proxy of every model for every dataset: own accuracy times similarity, or own accuracy plus one.

    The proxy lies in 0..2 and is halved, which keeps its order and makes it a fraction. A model that was trained on
    several datasets takes the largest of its proxies. Datasets are matched whether their names are written with blanks,
    dashes or underscores, small or large, as the thesis code did.

    Args:
        performance: Records of models on the datasets they were trained on.
        similarity: Target -> dataset -> similarity.
        source: Name for the records.

    Returns:
        Performance records with protocol ``proxy`` and metric ``proxy``; none where no similarity is known.
    """
    names: dict[str, str] = {}
    inner = {target for row in similarity.values() for target in row}
    for name in sorted(set(performance["dataset_id"].astype(str))) + sorted({*similarity, *inner}):
        names.setdefault(_normalised(name), name)
    known = {
        _normalised(target): {_normalised(other): value for other, value in row.items()}
        for target, row in similarity.items()
    }
    best: dict[tuple[str, str], float] = {}
    for model, dataset, value in zip(
        performance["model_id"].astype(str), performance["dataset_id"].astype(str), performance["value"], strict=True
    ):
        own = _normalised(dataset)
        for target, name in names.items():
            # The target's row counts, and the other direction where it is silent.
            near = known.get(target, {}).get(own, known.get(own, {}).get(target))
            if target == own:
                proxy = float(value) + 1.0
            elif near is not None:
                proxy = float(value) * near
            else:
                continue
            best[model, name] = max(proxy / 2.0, best.get((model, name), 0.0))
    rows = [(model, target, value) for (model, target), value in sorted(best.items())]
    return records_frame(rows, "proxy", "proxy", source)


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
        name = _model_name(path)
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

    from thesis_rec.weights.torch_files import load_torch, state_dict_of

    item = str(path)
    state = {str(name): tensor for name, tensor in state_dict_of(load_torch(path, item), item).items()}
    encoder, decoder = _linear_layers(state, "encoder"), _linear_layers(state, "decoder")
    widths = _widths(encoder)
    if not widths or len(widths) < 2:
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
    from thesis_rec.networks import embed_vectors

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

    from thesis_rec.networks.thesis_transformer import ThesisTransformer
    from thesis_rec.weights.torch_files import load_torch, state_dict_of

    item = str(path)
    state = {str(name): tensor for name, tensor in state_dict_of(load_torch(path, item), item).items()}
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
        with torch.inference_mode():
            scores = network(codes, tokens).double().numpy()
        table = pd.DataFrame({"dataset_id": dataset_id, "model_id": embeddings["model_id"], "score": scores})
        tables.append(table.assign(rank=table["score"].rank(ascending=False, method="first").astype("int64")))
    return pd.concat(tables, ignore_index=True).assign(source="thesis")


def _linear_layers(state: Mapping[str, Any], half: str) -> list[tuple[Any, Any]]:
    places = sorted(int(match[1]) for name in state if (match := re.fullmatch(rf"{half}\.(\d+)\.weight", name)))
    return [
        (state[f"{half}.{i}.weight"], state[f"{half}.{i}.bias"])
        for i in places
        if f"{half}.{i}.bias" in state and state[f"{half}.{i}.weight"].ndim == 2
    ]


def _widths(layers: list[tuple[Any, Any]]) -> list[int]:
    return [int(layers[0][0].shape[1]), *(int(weight.shape[0]) for weight, _ in layers)] if layers else []


def _model_name(path: Path) -> str:
    from thesis_rec.files import decode_id

    name = decode_id(path.stem)
    for ending in _NAME_ENDINGS:
        name = name.removesuffix(ending)
    return name


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file that hold numbers or text; pickled objects are left out, and refused where they matter."""
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {}
            for key in content.files:
                try:
                    arrays[key] = content[key]
                except ValueError:
                    # Class names were saved as pickled objects; nothing else needs to be.
                    if key in ("parameters", "embedding", "features"):
                        raise
        return arrays
    except (ValueError, OSError, KeyError) as error:
        raise ItemError(str(path), f"can't be read ({error}).", "Write it anew with numpy.savez.") from error


def _vector(values: NDArray[Any], path: Path) -> dict[str, NDArray[Any]]:
    vector = np.asarray(values, dtype=np.float32).ravel()
    if len(vector) > VECTOR_LENGTH or not np.isfinite(vector).all() or not vector.any():
        raise ItemError(
            str(path), f"has parameters that aren't a finite vector of {VECTOR_LENGTH}.", "Extract the model again."
        )
    padded = np.zeros(VECTOR_LENGTH, dtype=np.float32)
    padded[: len(vector)] = vector
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
    from thesis_rec.images.tokens import shard_key

    found = {}
    for (dataset, split), parts in shards.items():
        n_images = np.int64(sum(int(part["n_images"]) for part in parts))
        for number, part in enumerate(parts):
            counted = {"n_images": n_images, "shard": np.int64(number), "n_shards": np.int64(len(parts))}
            found[shard_key(dataset, split, number)] = part | counted
    return found


def _normalised(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _pairs(content: Any, where: str) -> Iterable[tuple[str, str, float]]:
    """(outer key, inner key or model, number) of an object of objects, or of an object of lists of entries."""
    shape = "Give an object of objects of numbers, or of lists of {model_name, accuracy}."
    if not isinstance(content, dict):
        raise ItemError(where, "is no JSON object.", shape)
    for outer, row in content.items():
        if isinstance(row, list):
            entries = [(_first_of(entry, _MODEL_KEYS), entry) for entry in row]
            if any(name is None for name, _ in entries):
                raise ItemError(where, f"has an entry without model_name under {outer!r}.", shape)
        elif isinstance(row, dict):
            entries = list(row.items())
        else:
            raise ItemError(where, f"has {type(row).__name__} under {outer!r}.", shape)
        for inner, entry in entries:
            value = _first_of(entry, _VALUE_KEYS) if isinstance(entry, dict) else entry
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ItemError(where, f"has no number under {outer!r}, {inner!r}.", "Give a number there.")
            yield str(outer), str(inner), float(value)


def _first_of(entry: Any, keys: Iterable[str]) -> Any:
    return next((entry[key] for key in keys if key in entry), None) if isinstance(entry, dict) else None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ItemError(str(path), f"can't be read as JSON ({error}).", "Check the path and the file.") from error
