from __future__ import annotations

import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import thesis_rec.recommendation.asking as asking
import thesis_rec.recommendation.trying as trying
from tests.fabricated import DEVICE, fabricated_bundle
from tests.recommendation.test_trying import save_images
from thesis_rec.base.errors import ConfigurationError, ItemError, NothingSucceeded
from thesis_rec.cli import cli, known_error
from thesis_rec.commands import artefacts
from thesis_rec.published.cells import read_datasets
from thesis_rec.recommendation.request import Asked, Request, image_row


@pytest.fixture
def folder(tmp_path, monkeypatch):
    bundle = fabricated_bundle()
    bundle = replace(bundle, models_root=tmp_path)
    monkeypatch.setattr(artefacts, "load_bundle", lambda project, environment, zoo: bundle)

    def read(source, encoder, request):
        row = image_row(source)
        return Asked(row, replace(bundle.tokens["d0"], dataset_id=row.dataset_id), 40)

    monkeypatch.setattr(asking, "read_images", read)
    return save_images(tmp_path / "mine")


def call(*arguments):
    return CliRunner().invoke(cli, ["recommend", *map(str, arguments)], obj=SimpleNamespace(project_path="."))


def test_a_table_for_people(folder):
    result = call(folder, "--device", DEVICE, "--top", 3)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "mine: 4 classes, 40 images"
    assert lines[1].startswith("best: m")
    assert lines[2].startswith("  accuracy  0.")
    assert lines[2].endswith(", of a linear classifier on some 16 images of a class")
    assert "with 90 % between" in lines[2]
    assert any(line.startswith("  load      timm.create_model(") for line in lines)
    assert "nearest known datasets: d0" in result.stdout
    header = next(i for i, line in enumerate(lines) if line.startswith(("# ", " #")))
    assert [line.split()[0] for line in lines[header + 1 : header + 4]] == ["1", "2", "3"]
    assert lines[header + 4] == ""
    assert "The models are toys" in result.stdout
    assert "your images were looked at by fabricated" in result.stdout


def test_the_next_command_names_the_images_as_they_were_given(folder, monkeypatch):
    """From the folder that the command was called in, wherever the images lie."""
    read, sample = asking.read_images, ((np.zeros((4, 4, 3), np.uint8), "a"),)
    monkeypatch.setattr(asking, "read_images", lambda *given: replace(read(*given), sample=sample))
    monkeypatch.chdir(folder.parent.parent)
    for given in (folder, folder.relative_to(folder.parent.parent)):
        assert f"  next      kedro recommend {given} --probe 5" in call(given, "--device", DEVICE).stdout


def test_a_document_for_programs(folder):
    result = call(folder, "--device", DEVICE, "--max-latency-ms", 3, "--top", 5, "--format", "json", "--licence", "mit")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert len(document["models"]) == 5
    assert all(model["latency_ms"] <= 3 and model["licence"] == "MIT" for model in document["models"])
    table = pd.read_csv(io.StringIO(call(folder, "--device", DEVICE, "--format", "csv").stdout))
    assert table["rank"].tolist() == list(range(1, 11))


def test_nothing_fits_is_status_2_with_the_closest_change(folder):
    result = call(folder, "--device", DEVICE, "--max-latency-ms", 0.0001, "--family", "family1")
    assert result.exit_code == 2
    assert "No model keeps all limits." in result.stdout
    assert "--max-latency-ms" in result.stdout
    assert "excluded: 24 models (24 by --max-latency-ms, 18 by --family)" in result.stdout
    document = json.loads(call(folder, "--device", DEVICE, "--max-parameters", 1, "--format", "json").stdout)
    assert document["models"] == []
    assert document["relaxations"][0]["changes"]["max_parameters"] > 1


def test_probes_are_shown_as_they_come(folder, monkeypatch, caplog):
    caplog.set_level("INFO", logger="thesis_rec")
    monkeypatch.setattr(trying, "linear_prober", lambda images, device, load: lambda model: 0.7)
    result = call(folder, "--device", DEVICE, "--probe", 2)
    assert result.exit_code == 0, result.output
    assert caplog.text.count("tried m") == caplog.text.count("best so far") == 2
    assert "2 candidates were tried." in result.stdout
    assert "tried" in next(line for line in result.stdout.splitlines() if line.lstrip().startswith("# "))


def test_scores_order_the_candidates_and_are_no_tries(folder, monkeypatch, caplog):
    caplog.set_level("INFO", logger="thesis_rec")
    given = []

    def score_models(models, images, device, load, notes):
        given.extend(models)
        # The last of them is the best by far.
        return {model: float(place**2) for place, model in enumerate(models)}

    monkeypatch.setattr(trying, "score_models", score_models)
    before, after = (call(folder, "--device", DEVICE, "--max-parameters", 3e5, *more) for more in ((), ("--score", 5)))
    assert after.exit_code == 0, after.output
    assert len(given) == 5
    assert before.stdout.splitlines()[1] == f"best: {given[0]}"
    assert after.stdout.splitlines()[1] != before.stdout.splitlines()[1]
    assert "0 candidates were tried. 5 were scored by LogME." in after.stdout
    assert "tried m" not in caplog.text


def test_scores_are_refused_where_they_say_nothing(folder):
    result = call(folder, "--device", DEVICE, "--score", 5, "--protocol", "zero_shot")
    assert result.exit_code == 1
    assert "leave out --score or --protocol zero_shot" in result.output


def test_output_is_a_folder_with_report_table_and_document(folder, tmp_path):
    result = call(folder, "--device", DEVICE, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "recommendation.html", "recommendation.json", "recommendation.parquet",
    ]  # fmt: skip
    assert len(pd.read_parquet(tmp_path / "out" / "recommendation.parquet")) == 24


def test_a_folder_that_can_t_be_written_is_an_error_and_the_answer_stays(folder, tmp_path):
    (tmp_path / "file").write_text("")
    result = call(folder, "--device", DEVICE, "--output", tmp_path / "file" / "out")
    assert result.exit_code == 1, result.output
    assert "best: m" in result.stdout
    assert "Error: Nothing was written to" in result.stderr
    assert (tmp_path / "file").read_text() == ""


def test_a_full_disk_costs_no_answer_and_leaves_no_torn_file(folder, full_disk):
    (full_disk / "ballast").write_bytes(bytes(1_020_000))
    result = call(folder, "--device", DEVICE, "--output", full_disk / "out")
    assert result.exit_code == 1, result.output
    assert "best: m" in result.stdout
    assert "No space left" in result.stderr
    assert list((full_disk / "out").iterdir()) == []


def test_every_wish_is_an_option_with_the_same_default():
    from thesis_rec.commands.recommend_command import recommend

    options = {option.name: option for option in recommend.params}
    for name, field in Request.model_fields.items():
        assert options[name].help.startswith(field.description), name
        assert (options[name].default or None) == (field.default or None), name
    assert options["licences"].opts == ["--licence"]
    assert options["measure"].secondary_opts == ["--no-measure"]
    assert options["precision"].type.choices == ("fp32", "fp16", "bf16")
    # An option that may be left open, too; a typo is answered with what there is.
    assert set(options["domain"].type.choices) == {one.domain for one in read_datasets().values()}


def test_known_errors_are_one_message_without_traceback(folder):
    result = call(folder / "absent")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "no such folder or file" in result.stderr
    assert "Traceback" not in result.output
    assert call(folder, "--device", "tpu").exit_code == 1
    # Status 2 is of an answer in which nothing fits, and of nothing else.
    assert call(folder, "--max-latency-ms", -1).exit_code == 1
    assert call(folder, "--seed", -1).exit_code == 1
    assert call(folder, "--level", 1).stderr == "Error: level is 1.0: input should be less than 1.\n"
    assert call(folder, "--max-latency", 5).exit_code == 1
    result = call(folder, "--max-latency-ms", "nan")
    assert result.stderr == "Error: max_latency_ms is nan: input should be a finite number.\n"


def test_unknown_errors_keep_their_traceback(folder, monkeypatch):
    def broken(*arguments, **keywords):
        raise RuntimeError("a bug")

    monkeypatch.setattr("thesis_rec.recommendation.asking.recommend_images", broken)
    result = call(folder)
    assert isinstance(result.exception, RuntimeError)


def test_errors_behind_other_errors_are_known():
    inner = NothingSucceeded("nothing")
    outer = ValueError("outer")
    outer.__cause__ = inner
    assert known_error(outer) == str(inner)
    assert known_error(ValueError("x")) is None


def test_a_part_of_a_pipeline_whose_inputs_no_file_keeps_is_one_message():
    from kedro.io import DataCatalog
    from kedro.pipeline import Pipeline, node
    from kedro.runner import SequentialRunner

    with pytest.raises(ValueError, match="Pipeline input") as caught:
        SequentialRunner().run(Pipeline([node(len, "made_by_a_node_left_out", "b")]), DataCatalog())
    assert "made_by_a_node_left_out" in known_error(caught.value)


def test_run_prints_known_errors_too(monkeypatch):
    from thesis_rec.cli import run

    def fail(**keywords):
        raise ItemError("models", "all failed.", "Repair them.")

    monkeypatch.setattr(run, "callback", fail)
    result = CliRunner().invoke(run, ["--pipeline=model_extraction"])
    assert result.exit_code == 1
    assert result.stderr.strip() == "Error: models: all failed. Repair them."


def test_commands_are_listed_without_importing_them():
    result = CliRunner().invoke(cli, ["--help"])
    assert {"recommend", "run", "submit"} <= {line.split()[0] for line in result.stdout.splitlines() if line.strip()}


def test_the_project_is_found_from_its_folders(project_dir, tmp_path):
    assert artefacts.find_project(project_dir / "notebooks") == project_dir
    with pytest.raises(ConfigurationError, match="not within a project"):
        artefacts.find_project(tmp_path)


def test_relative_paths_are_the_project_s(tmp_path):
    (tmp_path / "clip").mkdir()
    given = {"encoder": {"kind": "timm", "source": "clip"}, "models_root": "models", "top": 3}
    found = artefacts._absolute(given, tmp_path)
    assert found["encoder"] == {"kind": "timm", "source": str(tmp_path / "clip")}
    assert found["models_root"] == str(tmp_path / "models")
    elsewhere = artefacts._absolute({"encoder": {"kind": "timm", "source": "hf-hub:x/y"}}, tmp_path)
    assert elsewhere["encoder"]["source"] == "hf-hub:x/y"
