import numpy as np
import pytest
from kedro.io import DatasetError

from thesis_rec.base.errors import ItemError
from thesis_rec.base.tables import ModelTable, read_csv
from thesis_rec.catalog.files import JoinedFilesDataset


def test_model_table_selects_rows():
    table = ModelTable(["x", "y", "z"], np.eye(3, dtype=np.float32), ["f", "g", "f"], np.arange(3), np.ones((3, 2)))
    chosen = table.select([2, 0])
    assert chosen.model_ids == ["z", "x"]
    assert chosen.families == ["f", "f"]
    assert chosen.reference is not None
    assert len(chosen) == 2
    assert table.select([1]).embedding[0, 1] == 1


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_table_in_another_encoding_is_named_with_what_to_do(tmp_path, encoding):
    path = tmp_path / "models.csv"
    path.write_bytes("model_id,source\nbébé,here\n".encode(encoding))
    with pytest.raises(ItemError, match=r"models\.csv: can't be read as a table .* CSV in UTF-8"):
        read_csv(path, dtype=str)
    # A catalog entry keeps it as the cause, which the commands show.
    with pytest.raises(DatasetError) as raised:
        JoinedFilesDataset(filepath=path).load()
    assert isinstance(raised.value.__cause__, ItemError)


@pytest.mark.parametrize("rows", ["m,0,83,1\n", "m,0.83,1,\nm,0,81,2\n"])
def test_a_comma_in_a_cell_moves_no_column(tmp_path, rows):
    """Pandas left out what came last: an accuracy of 0,83 was one of 0, with 83 for its seed."""
    path = tmp_path / "records.csv"
    path.write_text("model_id,value,seed\n" + rows)
    with pytest.raises(ItemError, match=r"records\.csv: .*line [23]: more cells than columns"):
        read_csv(path)
    path.write_text("model_id,value,seed\nm,0.83,1,\nm,0.81,2,\n")
    assert read_csv(path)["value"].tolist() == [0.83, 0.81]


def test_blanks_around_names_and_texts_of_a_table_dont_count(tmp_path):
    path = tmp_path / "models.csv"
    path.write_text("model_id , loader\nmine/net , timm\n", encoding="utf-8")
    assert read_csv(path, dtype="string").to_dict("list") == {"model_id": ["mine/net"], "loader": ["timm"]}
    path.write_text("\ufeffmodel_id;loader;source\nmine/net;timm;here, there\n", encoding="utf-8")
    table = {"model_id": ["mine/net"], "loader": ["timm"], "source": ["here, there"]}
    assert read_csv(path, dtype=str).to_dict("list") == table  # as spreadsheets of many countries write it
    (tmp_path / "empty.csv").write_text("model_id\n", encoding="utf-8")
    assert list(read_csv(tmp_path / "empty.csv", dtype=str)) == ["model_id"]
