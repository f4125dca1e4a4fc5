"""Catalog datasets: round trips, atomic writes, refusals, resumption, previews."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kedro.io import DataCatalog, DatasetError

from thesis_rec.catalog import (
    AtomicJSONDataset,
    AtomicParquetDataset,
    CheckpointDataset,
    KeyedPartitionDataset,
    NPZDataset,
    OverlaidDataset,
)


class Unwritable:
    """Makes a writer fail half-way."""

    def to_parquet(self, path, **kwargs):
        path.write_bytes(b"half")
        raise OSError("disk full")


class TestFiles:
    def test_tables_round_trip_without_their_index(self, tmp_path):
        dataset = AtomicParquetDataset(filepath=tmp_path / "deep" / "t.parquet", metadata={"a": 1})
        table = pd.DataFrame({"model_id": ["a", "b"], "value": [0.5, 1.0]}, index=[7, 8])
        assert not dataset.exists()
        with pytest.raises(DatasetError, match="doesn't exist"):
            dataset.load()
        dataset.save(table)
        assert dataset.exists()
        assert dataset.metadata == {"a": 1}
        pd.testing.assert_frame_equal(dataset.load(), table.reset_index(drop=True), check_dtype=False)
        assert dataset.preview(1)["data"] == [["a", 0.5]]
        dataset.release()

    def test_preview_of_an_empty_table_has_its_columns(self, tmp_path):
        dataset = AtomicParquetDataset(filepath=tmp_path / "t.parquet")
        dataset.save(pd.DataFrame({"error": pd.Series(dtype="string")}))
        assert dataset.preview()["columns"] == ["error"]

    def test_a_failed_save_leaves_the_former_file_and_no_litter(self, tmp_path):
        dataset = AtomicParquetDataset(filepath=tmp_path / "t.parquet")
        dataset.save(pd.DataFrame({"a": [1]}))
        with pytest.raises(DatasetError, match="disk full"):
            dataset.save(Unwritable())
        assert dataset.load()["a"].tolist() == [1]
        assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]

    def test_json_takes_numpy_and_stays_valid_json(self, tmp_path):
        dataset = AtomicJSONDataset(filepath=tmp_path / "t.json")
        document = {"a": np.float32(0.5), "b": np.arange(2), "c": float("nan"), 3: (True, None, pd.NA), "p": tmp_path}
        dataset.save(document)
        text = (tmp_path / "t.json").read_text()
        assert "NaN" not in text
        assert dataset.load() == {
            "a": 0.5, "b": [0, 1], "c": None, "3": [True, None, None], "p": str(tmp_path),
        }  # fmt: skip
        assert json.loads(dataset.preview())["b"] == [0, 1]
        dataset.save({"long": {"deep": {f"k{i}": "x" * 999 for i in range(9)}}, "list": [1], "n": 1})
        assert json.loads(dataset.preview())["long"]["deep"].startswith("9 keys: k0")


class TestNPZ:
    @settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.lists(st.integers(-9, 9)), min_size=1))
    def test_round_trip(self, tmp_path, content):
        dataset = NPZDataset(filepath=tmp_path / "a.npz")
        arrays = {name: np.array(values, dtype=np.float32) for name, values in content.items()}
        dataset.save(arrays)
        loaded = dataset.load()
        assert set(loaded) == set(arrays)
        assert all(np.array_equal(loaded[name], arrays[name]) and loaded[name].dtype == np.float32 for name in arrays)

    def test_strings_and_numbers_and_preview(self, tmp_path):
        dataset = NPZDataset(filepath=tmp_path / "a.npz")
        dataset.save({"name": "é", "n": 3, "names": ["a", "bb"], "x": np.zeros((2, 3))})
        loaded = dataset.load()
        assert str(loaded["name"]) == "é"
        assert int(loaded["n"]) == 3
        assert json.loads(dataset.preview())["x"] == "float64 [2, 3]"

    def test_objects_are_refused(self, tmp_path):
        dataset = NPZDataset(filepath=tmp_path / "a.npz")
        with pytest.raises(DatasetError, match="Object arrays"):
            dataset.save({"x": [{}, None]})
        with pytest.raises(DatasetError, match="mapping"):
            dataset.save([1])

    def test_pickles_and_truncated_files_are_refused(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez(path, x=np.array([{}], dtype=object))
        with pytest.raises(DatasetError, match=r"a\.npz is damaged \(.*allow_pickle=False"):
            NPZDataset(filepath=path).load()
        np.savez(path, x=np.arange(1000))
        path.write_bytes(path.read_bytes()[:500])
        with pytest.raises(DatasetError, match="delete it"):
            NPZDataset(filepath=path).load()


class TestCheckpoint:
    def test_round_trip_keeps_runs_and_reads_no_pickle(self, tmp_path):
        torch = pytest.importorskip("torch")
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "epoch=000.ckpt").write_text("kept")
        dataset = CheckpointDataset(filepath=tmp_path / "c.pt")
        dataset.save({"weights": {"a": torch.arange(3.0)}, "config": {"width": 4, "x": [1, None]}, "epoch": 2})
        loaded = dataset.load()
        assert torch.equal(loaded["weights"]["a"], torch.arange(3.0))
        assert loaded["config"] == {"width": 4, "x": [1, None]}
        assert json.loads(dataset.preview())["weights"] == {"a": "float32 [3]"}
        assert (tmp_path / "runs" / "epoch=000.ckpt").read_text() == "kept"

    def test_what_could_not_be_read_back_is_refused_at_saving(self, tmp_path):
        torch = pytest.importorskip("torch")
        dataset = CheckpointDataset(filepath=tmp_path / "c.pt")
        with pytest.raises(DatasetError, match="more than tensors"):
            dataset.save({"model": torch.nn.Linear(2, 2)})
        with pytest.raises(DatasetError, match="more than tensors"):
            dataset.save(torch.nn.Linear(2, 2))
        assert not dataset.exists()
        assert list(tmp_path.iterdir()) == []

    def test_a_malicious_pickle_is_not_executed(self, tmp_path):
        torch = pytest.importorskip("torch")
        marker = tmp_path / "executed"

        class Bomb:
            def __reduce__(self):
                return marker.write_text, ("x",)

        torch.save({"a": Bomb()}, tmp_path / "c.pt")
        with pytest.raises(DatasetError):
            CheckpointDataset(filepath=tmp_path / "c.pt").load()
        assert not marker.exists()


class TestKeyedPartitions:
    def test_absent_folder_is_empty_and_saving_keeps_others(self, tmp_path):
        dataset = KeyedPartitionDataset(path=tmp_path / "p")
        assert dataset.load() == {}
        assert not dataset.exists()
        dataset.save({"timm/resnet18": {"x": np.ones(2)}})
        dataset.save({"b": lambda: {"x": np.zeros(2)}})
        loaded = dataset.load()
        assert list(loaded) == ["b", "timm/resnet18"]
        assert loaded["timm/resnet18"]()["x"].tolist() == [1, 1]
        assert {p.name for p in (tmp_path / "p").iterdir()} == {"b.npz", "timm%2Fresnet18.npz"}
        assert json.loads(dataset.preview())["partitions"] == 2
        dataset.save({})
        assert len(dataset.load()) == 2

    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12))
    def test_any_key_stays_inside_its_folder_and_comes_back(self, tmp_path_factory, key):
        folder = tmp_path_factory.mktemp("keys")
        dataset = KeyedPartitionDataset(path=folder / "p", format="json")
        dataset.save({key: [1]})
        assert list(dataset.load()) == [key]
        assert len(list((folder / "p").rglob("*.json"))) == 1
        assert [p.name for p in folder.iterdir()] == ["p"]

    def test_levels(self, tmp_path):
        dataset = KeyedPartitionDataset(path=tmp_path, depth=3)
        dataset.save({"org/data/train/00000": {"x": [1]}})
        assert (tmp_path / "org%2Fdata" / "train" / "00000.npz").is_file()
        assert list(dataset.load()) == ["org/data/train/00000"]
        with pytest.raises(DatasetError, match="3 levels"):
            dataset.save({"only/two": {"x": [1]}})
        with pytest.raises(DatasetError, match="3 levels"):
            dataset.save({"a//0": {"x": [1]}})

    def test_tables_and_unknown_formats(self, tmp_path):
        dataset = KeyedPartitionDataset(path=tmp_path, format="parquet")
        dataset.save({"a": pd.DataFrame({"v": [1]})})
        assert dataset.load()["a"]()["v"].tolist() == [1]
        assert json.loads(dataset.preview()) == {"partitions": 1, "first keys": ["a"]}
        with pytest.raises(DatasetError, match="unknown partition format"):
            KeyedPartitionDataset(path=tmp_path, format="pickle")

    def test_exists_means_any_and_optional_ones_always_do(self, tmp_path):
        dataset = KeyedPartitionDataset(path=tmp_path / "p")
        assert not dataset.exists()
        assert KeyedPartitionDataset(path=tmp_path / "p", optional=True).exists()
        dataset.save({"a": {"x": [1]}})
        assert dataset.exists()

    def test_validator_at_save_and_load(self, tmp_path):
        validator = "thesis_rec.catalog.validators.validate_model_vector"
        dataset = KeyedPartitionDataset(path=tmp_path, partition_validator=validator)
        with pytest.raises(DatasetError, match=r"'m'.*missing keys: parameters"):
            dataset.save({"m": {"x": [1]}})
        KeyedPartitionDataset(path=tmp_path).save({"m": {"x": [1]}})
        with pytest.raises(DatasetError, match="missing keys: parameters"):
            dataset.load()["m"]()

    def test_files_being_written_are_not_partitions(self, tmp_path):
        (tmp_path / ".a.npz.x.tmp.npz").write_text("half")
        assert KeyedPartitionDataset(path=tmp_path).load() == {}


class TestOverlaid:
    def entry(self, folder):
        table = {"type": "thesis_rec.catalog.AtomicParquetDataset"}
        return {
            "type": "thesis_rec.catalog.OverlaidDataset",
            "combine": "thesis_rec.truth.performance_records.overlay_scores",
            "datasets": {name: {**table, "filepath": str(folder / f"{name}.parquet")} for name in ("zoo", "own")},
        }

    def test_ones_own_rows_count_before_the_zoo_s_and_either_may_be_missing(self, tmp_path):
        dataset = DataCatalog.from_config({"scores": self.entry(tmp_path)}).get("scores")
        assert dataset.exists()
        assert len(dataset.load()) == 0
        row = {"dataset_id": "d", "method": "logme", "seconds": 0.1, "source": "measured"}
        pd.DataFrame([{"model_id": "a", "value": 1.0, **row}]).to_parquet(tmp_path / "own.parquet")
        assert dataset.load()["value"].tolist() == [1.0]
        zoo = [{"model_id": name, "value": 0.0, **row} for name in ("a", "b")]
        pd.DataFrame(zoo).to_parquet(tmp_path / "zoo.parquet")
        assert dataset.load().set_index("model_id")["value"].to_dict() == {"a": 1.0, "b": 0.0}
        dataset.release()

    def test_is_read_only(self, tmp_path):
        dataset = OverlaidDataset(**{key: value for key, value in self.entry(tmp_path).items() if key != "type"})
        assert "overlay_scores" in repr(dataset)
        with pytest.raises(DatasetError, match="never written"):
            dataset.save(pd.DataFrame())
