"""Kedro datasets that kedro-datasets lacks, all writing atomically, and the catalog's validators."""

from thesis_rec.catalog.checkpoint import CheckpointDataset as CheckpointDataset
from thesis_rec.catalog.joined import JoinedFilesDataset as JoinedFilesDataset
from thesis_rec.catalog.npz import NPZDataset as NPZDataset
from thesis_rec.catalog.overlaid import OverlaidDataset as OverlaidDataset
from thesis_rec.catalog.partitions import KeyedPartitionDataset as KeyedPartitionDataset
from thesis_rec.catalog.tables import AtomicJSONDataset as AtomicJSONDataset
from thesis_rec.catalog.tables import AtomicParquetDataset as AtomicParquetDataset
