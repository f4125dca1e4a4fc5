"""What an answer reads of the configuration is what Kedro reads of it."""

import shutil
from pathlib import Path

import pytest

from thesis_rec.commands.artefacts import ENTRIES, FILES, read_configuration

ONLY = {"of_base": FILES, "entries": ENTRIES}
PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("zoo", ["hub", "starter"])
def test_an_answer_reads_few_files_and_finds_the_same(zoo):
    few, all_of_it = (read_configuration(PROJECT, None, zoo, **only) for only in (ONLY, {}))
    assert few["globals"] == all_of_it["globals"]
    assert few["globals"]["zoo"] == zoo
    assert set(few["catalog"]) == set(ENTRIES)
    assert few["parameters"]["recommendation"] == all_of_it["parameters"]["recommendation"]
    assert set(few["parameters"]) == {"recommendation"} < set(all_of_it["parameters"])
    for name in ENTRIES:
        assert few["catalog"][name] == all_of_it["catalog"][name]


def test_an_environments_own_files_are_read_whatever_their_name(tmp_path):
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "base").symlink_to(PROJECT / "conf" / "base")
    (conf / "local").mkdir()
    (conf / "local" / "parameters_of_mine.yml").write_text("recommendation:\n  top: 3\n")
    (conf / "local" / "catalog_of_mine.yml").write_text(
        "model_manifest:\n  type: pandas.CSVDataset\n  filepath: a.csv\n"
    )
    loader = read_configuration(tmp_path, None, "starter", **ONLY)
    assert loader["parameters"]["recommendation"]["top"] == 3
    assert loader["catalog"]["model_manifest"]["filepath"] == "a.csv"


def test_an_entry_that_only_an_environment_has_is_found(tmp_path):
    conf = tmp_path / "conf"
    shutil.copytree(PROJECT / "conf" / "base", conf / "base")
    (conf / "local").mkdir()
    (conf / "local" / "catalog.yml").write_text("of_mine:\n  type: pandas.CSVDataset\n  filepath: a.csv\n")
    loader = read_configuration(tmp_path, None, "starter", of_base=FILES, entries=("of_mine", "model_manifest"))
    assert loader["catalog"]["of_mine"]["filepath"] == "a.csv"
    assert set(loader["catalog"]) == {"of_mine", "model_manifest"}
