"""Networks that the earlier thesis code trained: its autoencoder and its similarity transformer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import ItemError
from thesis_rec.thesis.thesis_arrays import embeddings_table


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
        with torch.inference_mode():
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
