"""Training data that fits into memory, served in whole batches."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, StackDataset

#: Named tensors with a common first dimension: all data of a run, or a batch of them.
Batch = dict[str, Tensor]


def fingerprint(columns: Batch) -> str:
    """Hash of all content; two runs on equal data have equal fingerprints."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        column = columns[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(column.shape)}{column.dtype}".encode())
        digest.update(column.numpy().tobytes())
    return digest.hexdigest()


class EpochSampler(Sampler[int]):
    """A permutation that depends on seed and epoch alone, so that a resumed run sees what the first would have seen.

    With several processes each gets its slice of the same permutation, filled up to equal length.

    Args:
        length: Number of items.
        seed: Seed of the run.
        per_epoch: Items of one epoch, a random part of all; None for all.
    """

    def __init__(self, length: int, seed: int, per_epoch: int | None = None) -> None:
        self.length = length
        self.seed = seed
        self.per_epoch = min(per_epoch or length, length)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.per_epoch / _world()[1])

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator)[: self.per_epoch]
        rank, world = _world()
        missing = len(self) * world - len(order)
        order = torch.cat([order, order[:missing]])
        return iter(order[rank::world].tolist())


def _world() -> tuple[int, int]:
    """Rank and number of training processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def loader(columns: Batch, batch_size: int, sampler: EpochSampler | None = None) -> DataLoader[Batch]:
    """Batches in the sampler's order, or in that of the data."""
    # A tensor is indexed as a dataset is.
    return DataLoader(StackDataset(**columns), batch_size=batch_size, sampler=sampler)  # type: ignore[arg-type]
