"""Small state dicts, and the ways they are stored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from thesis_rec.models.checkpoint_reader import StateReader
from thesis_rec.models.model_extraction import vector_and_spectra

# The names of what is read of the small state.
KEPT = ["conv1.weight", "bn1.weight", "bn1.running_mean", "fc.weight", "fc.bias"] + [
    f"layer{i}.0.{kind}" for i in (1, 2, 10) for kind in ("weight", "bias")
]


def small_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """A small residual network's tensors, in the order of its modules."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    state = {"conv1.weight": normal(8, 3, 3, 3), "bn1.weight": normal(8), "bn1.running_mean": normal(8)}
    state["bn1.num_batches_tracked"] = torch.tensor(7)
    for i in (1, 2, 10):
        state[f"layer{i}.0.weight"] = normal(32, 8, 3, 3)
        state[f"layer{i}.0.bias"] = normal(32)
    state["mask"] = torch.ones(4, dtype=torch.bool)
    state["nothing"] = torch.empty(0, 3)
    state["fc.weight"] = normal(10, 32)
    state["fc.bias"] = normal(10)
    return state


def save_sharded(state: dict[str, torch.Tensor], folder: Path, shards: int = 3, torch_format: bool = False) -> Path:
    """A folder with shards and an index, as the hub keeps large models."""
    folder.mkdir(parents=True, exist_ok=True)
    stem, ending = ("pytorch_model", "bin") if torch_format else ("model", "safetensors")
    names = sorted(state)
    weight_map = {}
    for i in range(shards):
        part = {name: state[name] for name in names[i::shards]}
        file = f"{stem}-{i + 1:05d}-of-{shards:05d}.{ending}"
        if torch_format:
            torch.save(part, folder / file)
        else:
            save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps(index))
    return folder


def parameter_vector(reader: StateReader, **more: int) -> np.ndarray:
    """The vector of a checkpoint, without its spectra."""
    return vector_and_spectra(reader, **more)[0]
