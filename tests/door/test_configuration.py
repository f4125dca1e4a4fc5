"""What an answer reads of the configuration is what Kedro reads of it."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.commands.artefacts import ENTRIES, FEW, read_configuration
from thesis_rec.door.configuration import ARGUMENTS, MergedGlobalsConfigLoader

ONLY = FEW | {"entries": ENTRIES}
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


def test_loaders_of_several_zoos_dont_mix_in_turn_or_in_threads():
    def zoo_of(loader):
        return loader["parameters"]["recommendation"]["zoo"]

    def bundles(zoo):
        loader = read_configuration(PROJECT, None, zoo, **ONLY)
        return {zoo_of(loader) for _ in range(3)}

    first, second = (read_configuration(PROJECT, None, zoo, **ONLY) for zoo in ("starter", "hub"))
    assert [zoo_of(first), zoo_of(second), zoo_of(first)] == ["starter", "hub", "starter"]
    zoos = ["starter", "hub"] * 4
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(bundles, zoos)) == [{zoo} for zoo in zoos]


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
    loader = read_configuration(tmp_path, None, "starter", entries=("of_mine", "model_manifest"))
    assert loader["catalog"]["of_mine"]["filepath"] == "a.csv"
    assert set(loader["catalog"]) == {"of_mine", "model_manifest"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("zoos:\n", "names of zoos"),
        ("zoos: [1, 2]\n", "names of zoos"),
        ("zoos: {hub: }\n", "names of zoos"),
        ("[1, 2]\n", "names of zoos"),
        (
            "zoos: {hub: {model_manifset: a.csv}}\n",
            "takes no 'model_manifset'. Did you mean model_manifest?",
        ),
        ("zoos: {hub: [\n", "can't be read: while parsing"),
        ("sed: 3\n", "nothing takes 'sed'. Did you mean seed?"),
        ("hub: {fetch: {max_gbs: 20}}\n", "nothing takes 'max_gbs'. Did you mean max_gb?"),
    ],
)
def test_odd_globals_are_one_line_that_names_the_file(tmp_path, content, told):
    (tmp_path / "conf" / "local").mkdir(parents=True)
    (tmp_path / "conf" / "base").symlink_to(PROJECT / "conf" / "base")
    (tmp_path / "conf" / "local" / "globals.yml").write_text(content)
    with pytest.raises(ConfigurationError, match=r"conf/local/globals\.yml") as caught:
        read_configuration(tmp_path, None, None)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "parameters.yml",
            "autoencodr: {fit: {epochs: 3}}\n",
            "'autoencodr'. Did you mean autoencoder? Known are",
        ),
        ("parameters/mine.yaml", "recommend: {top: 3}\n", "nothing takes 'recommend'."),
        ("recommendation.yml", "recommendation: {top: 3}\n", "Call it parameters_recommendation.yml"),
        ("global.yml", "seed: 3\n", "global.yml isn't read. Did you mean globals?"),
        ("parameters.yml", "_mine: &mine {top: 3}\nrecommendation: *mine\n", ""),
        ("globals.yaml", "seed: 3\nmy_root: /data\n", ""),
    ],
)
@pytest.mark.parametrize("only", [ONLY, {}])
def test_an_environments_file_is_read_or_refused(tmp_path, name, content, told, only):
    (tmp_path / "conf" / "local" / "parameters").mkdir(parents=True)
    (tmp_path / "conf" / "base").symlink_to(PROJECT / "conf" / "base")
    (path := tmp_path / "conf" / "local" / name).write_text(content)
    if told:
        with pytest.raises(ConfigurationError, match=str(path)) as caught:
            read_configuration(tmp_path, None, None, **only)["parameters"]
        assert told in str(caught.value)
    else:
        loader = read_configuration(tmp_path, None, None, **only)
        assert (loader["globals"]["seed"], loader["parameters"]["recommendation"]["top"]) in [(3, 10), (0, 3)]


def test_files_of_kedro_s_plugins_may_lie_beside(tmp_path):
    (tmp_path / "conf" / "local").mkdir(parents=True)
    (tmp_path / "conf" / "base").symlink_to(PROJECT / "conf" / "base")
    (tmp_path / "conf" / "local" / "airflow.yml").write_text("dag: {}\n")
    assert read_configuration(tmp_path, None, None)["globals"]["seed"] == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"image": "a.npz"}, "nothing takes 'image'. Did you mean images?"),
        ({"recomendation": {"top": 3}}, "nothing takes 'recomendation'. Did you mean recommendation?"),
        ({"shard": {"indx": 1}}, "nothing takes 'shard.indx'. Did you mean shard.index?"),
        ({"hub": {"fetch": {"max_gib": 1}}}, "nothing takes 'hub.fetch.max_gib'. Did you mean hub.fetch.max_gb?"),
        ({"hub": {"fecth": {"max_gb": 1}}}, "nothing takes 'hub.fecth.max_gb'. Did you mean hub.fetch.max_gb?"),
        ({"hub": {"fetch": {"max_gb": 1}}, "seed": 1, "benchmark": "site", "recommendation": {"top": 3}}, ""),
    ],
)
def test_a_runtime_parameter_that_nothing_takes_is_refused(given, told):
    if told:
        with pytest.raises(ConfigurationError, match="--params") as caught:
            MergedGlobalsConfigLoader(str(PROJECT / "conf"), runtime_params=given, **ARGUMENTS)
        assert told in str(caught.value)
    else:
        loader = MergedGlobalsConfigLoader(str(PROJECT / "conf"), runtime_params=given, **ARGUMENTS)
        assert loader["parameters"]["recommendation"]["top"] == 3
