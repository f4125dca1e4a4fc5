"""What an answer reads of the configuration is what Kedro reads of it."""

from pathlib import Path

import pytest

from thesis_rec.commands.artefacts import FILES, read_configuration

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("zoo", ["hub", "starter"])
def test_an_answer_reads_few_files_and_finds_the_same(zoo):
    few, all_of_it = (read_configuration(PROJECT, None, zoo, files) for files in (FILES, None))
    assert few["parameters"]["recommendation"] == all_of_it["parameters"]["recommendation"]
    assert set(few["parameters"]) == {"recommendation"} < set(all_of_it["parameters"])
    for name in ("model_manifest", "dataset_manifest", "recommendation_artefacts"):
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
    loader = read_configuration(tmp_path, None, "starter", FILES)
    assert loader["parameters"]["recommendation"]["top"] == 3
    assert loader["catalog"]["model_manifest"]["filepath"] == "a.csv"
