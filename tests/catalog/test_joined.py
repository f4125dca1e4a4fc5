"""Files that are read as one."""

import json

import pandas as pd
import pytest
from kedro.io import DatasetError

from tests.contracts import validate_performance_records
from thesis_rec.catalog import JoinedFilesDataset


def test_tables_are_put_below_each_other(tmp_path):
    (tmp_path / "a.csv").write_text("id,x\na,1\n")
    (tmp_path / "b.csv").write_text("id,note\nb,two\n")
    joined = JoinedFilesDataset(filepath=[str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]).load()
    assert joined.to_dict("records") == [{"id": "a", "x": "1", "note": ""}, {"id": "b", "x": "", "note": "two"}]
    # A comma at the end of each row moves nothing.
    (tmp_path / "b.csv").write_text("id,note\nb,two,\n")
    assert JoinedFilesDataset(filepath=tmp_path / "b.csv").load().to_dict("records") == [{"id": "b", "note": "two"}]
    one = JoinedFilesDataset(filepath=str(tmp_path / "a.csv"))
    assert one.load().to_dict("records") == [{"id": "a", "x": "1"}]
    for name in ("c", "d"):
        pd.DataFrame({"id": [name], "value": [0.5]}).to_parquet(tmp_path / f"{name}.parquet")
    tables = JoinedFilesDataset(filepath=[tmp_path / "c.parquet", tmp_path / "d.parquet"])
    assert tables.load()["id"].tolist() == ["c", "d"]
    assert tables.exists()
    assert tables.preview()
    assert one.preview()


def test_records_may_be_csv(tmp_path):
    text = "model_id,dataset_id,protocol,metric,value,seed,n_train,source\n"
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    paths[0].write_text(text + "007,d,linear_probe,accuracy,0.5,0,,lab\n")
    paths[1].write_text(text.replace(",source", ",seconds") + "b,d,linear_probe,accuracy,0.7,1,16,2.5\n")
    numbers = ["value", "seed", "n_train", "seconds", "n_test"]
    joined = JoinedFilesDataset(filepath=paths, numbers=numbers).load()
    validate_performance_records(joined)
    assert joined["model_id"].tolist() == ["007", "b"]
    assert joined["value"].tolist() == [0.5, 0.7]
    assert joined["n_train"].isna().tolist() == [True, False]
    assert joined["source"].tolist() == ["lab", ""]
    paths[0].write_text(text + "a,d,linear_probe,accuracy,83 %,0,,lab\n")
    with pytest.raises(DatasetError, match=r"value isn't all numbers .*83 %"):
        JoinedFilesDataset(filepath=paths[0], numbers=numbers).load()


def test_lists_of_objects_are_joined(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"ids": ["a"], "families": ["f"]}))
    (tmp_path / "b.json").write_text(json.dumps({"ids": ["b"]}))
    joined = JoinedFilesDataset(filepath=[tmp_path / "a.json", tmp_path / "b.json"])
    assert joined.load() == {"ids": ["a", "b"], "families": ["f"]}
    assert joined.preview()
    (tmp_path / "b.json").write_text("[1]")
    with pytest.raises(DatasetError, match="no object of lists"):
        joined.load()


def test_what_cannot_be_joined(tmp_path):
    for paths in ([], [tmp_path / "a.csv", tmp_path / "b.json"], [tmp_path / "a.txt"]):
        with pytest.raises(DatasetError, match="all of one kind"):
            JoinedFilesDataset(filepath=paths)
    absent = JoinedFilesDataset(filepath=[tmp_path / "a.csv"])
    assert not absent.exists()
    with pytest.raises(DatasetError, match="doesn't exist"):
        absent.load()
    with pytest.raises(DatasetError, match="never written"):
        absent.save(pd.DataFrame())
