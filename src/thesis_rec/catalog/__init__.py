"""Kedro datasets that kedro-datasets lacks, all writing atomically, and the catalog's validators."""

from thesis_rec.catalog.files import AtomicJSONDataset as AtomicJSONDataset
from thesis_rec.catalog.files import AtomicParquetDataset as AtomicParquetDataset
from thesis_rec.catalog.files import CheckpointDataset as CheckpointDataset
from thesis_rec.catalog.files import JoinedFilesDataset as JoinedFilesDataset
from thesis_rec.catalog.files import KeyedPartitionDataset as KeyedPartitionDataset
from thesis_rec.catalog.files import NPZDataset as NPZDataset
from thesis_rec.catalog.files import OverlaidDataset as OverlaidDataset
