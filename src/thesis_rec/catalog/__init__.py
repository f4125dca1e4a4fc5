"""Kedro datasets that kedro-datasets lacks, all writing atomically, and the catalog's validators."""

from thesis_rec.catalog.checkpoint import CheckpointDataset
from thesis_rec.catalog.joined import JoinedFilesDataset
from thesis_rec.catalog.npz import NPZDataset
from thesis_rec.catalog.overlaid import OverlaidDataset
from thesis_rec.catalog.partitions import KeyedPartitionDataset
from thesis_rec.catalog.tables import AtomicJSONDataset, AtomicParquetDataset

__all__ = [
    "AtomicJSONDataset",
    "AtomicParquetDataset",
    "CheckpointDataset",
    "JoinedFilesDataset",
    "KeyedPartitionDataset",
    "NPZDataset",
    "OverlaidDataset",
]
