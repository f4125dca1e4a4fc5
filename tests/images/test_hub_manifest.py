"""The committed manifest of hub datasets."""

import pandas as pd
import pytest

from tests.contracts import validate_dataset_manifest
from tests.images.opening import open_split
from thesis_rec.base.errors import ItemError
from thesis_rec.images.manifest import read_dataset_manifest

NAMES = {
    "mnist", "svhn", "usps", "fashion_mnist", "deepfashion_inshop", "fashion_product", "imagenet_1k", "cifar10",
    "cifar100", "caltech101", "ham10000", "lidc_idri", "pokemon", "aircraft", "sun397", "cars", "dtd", "pets",
}  # fmt: skip


@pytest.fixture(scope="module")
def table(project_dir):
    return pd.read_csv(project_dir / "data/01_raw/hub/dataset_manifest.csv", dtype="string", keep_default_na=False)


def test_every_row_is_usable_and_cites_where_it_was_looked_up(table):
    validate_dataset_manifest(table)
    rows, failures = read_dataset_manifest(table)
    assert failures == []
    assert {row.dataset_id for row in rows} == NAMES
    assert table["reference"].str.startswith("https://").all()
    assert (table["licence"] != "").all()
    for row in rows:
        assert {rule.name for rule in row.splits} == {"train", "test"}


def test_a_loading_script_is_explained(table, monkeypatch, tmp_path):
    import datasets

    def refuse(*args, **kwargs):
        raise RuntimeError("Dataset scripts are no longer supported, but found x.py")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    rows, _ = read_dataset_manifest(table)
    with pytest.raises(ItemError) as caught:
        open_split(rows[0], "train", tmp_path)
    assert "refs/convert/parquet" in caught.value.hint
