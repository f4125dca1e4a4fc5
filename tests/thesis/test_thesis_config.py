"""A config.ini of the thesis code becomes a parameters file that this project accepts."""

from __future__ import annotations

import pytest
import yaml
from click.testing import CliRunner

from thesis_rec.base.errors import ItemError
from thesis_rec.commands.import_config import import_config
from thesis_rec.pipelines.autoencoder.nodes import AutoencoderParameters
from thesis_rec.pipelines.similarity_training.nodes import SimilarityTrainingParameters
from thesis_rec.thesis.thesis_config import RULES, as_yaml, parse_value, translate

INI = """
[extractor]
output_stack_size = 8192
[autoencoder]
encoder_input_size = 8192
encoder_hidden_layers = [2048, 1024]
encoder_output_size = 512
activation = LeakyReLU
dropout = 0.1
[train_model_autoencoder]
batch_size = 16
num_epochs = 200
learning_rate = 1e-3
gradient_clip_norm = None
early_stopping_patience = 20
reconstruction_loss = smooth_l1
code_l1_penalty = 1e-5
extracted_models_dir = /scratch/models
[similarity_model]
hidden_dim = 64
transformer_layers = 3
transformer_heads = 4
[train_similarity_transformer]
num_epochs = 7
scheduler_patience = 5
[transformer_trainer]
nhead = 8
"""


def merged(base, change):
    return {
        key: merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in (base | change).items()
    }


@pytest.fixture
def ini(tmp_path):
    path = tmp_path / "config.ini"
    path.write_text(INI)
    return path


def test_settings_become_parameters(ini):
    found, left_out = translate(ini)
    assert found["autoencoder"] == {
        "network": {
            "hidden": [2048, 1024], "n_code": 512, "activation": "leaky_relu", "dropout": 0.1, "loss": "smooth_l1",
            "l1": 1e-5,
        },
        "fit": {
            "batch_size": 16, "schedule": "plateau", "epochs": 200, "learning_rate": 1e-3, "gradient_clip": 0,
            "patience": 20,
        },
    }  # fmt: skip
    training = found["similarity_training"]
    assert training["similarity_transformer"]["network"] == {"width": 64, "n_layers": 3, "n_heads": 4}
    assert training["similarity_transformer"]["fit"] == {"epochs": 7, "schedule": "plateau", "plateau_patience": 5}
    assert "cross_attention" not in training
    assert found["import_artefacts"] == {"arrays": "/scratch/models"}
    assert left_out == [
        "extractor.output_stack_size = 8192",
        "autoencoder.encoder_input_size = 8192",
        "transformer_trainer.nhead = 8",
    ]
    written = as_yaml(found, left_out, "config.ini")
    assert yaml.safe_load(written) == found
    assert "#   extractor.output_stack_size = 8192" in written


def _base(project_dir, name):
    text = (project_dir / f"conf/base/parameters/{name}.yml").read_text()
    return yaml.safe_load(text.replace("${globals:active.published,false}", "false"))[name]


def test_the_pipelines_accept_them(ini, project_dir):
    found = translate(ini)[0]
    for name, model in (("autoencoder", AutoencoderParameters), ("similarity_training", SimilarityTrainingParameters)):
        base = _base(project_dir, name) | {"runs_folder": "runs", "seed": 0}
        model.model_validate(merged(base, found[name]))


def test_every_rule_leads_to_a_parameter(project_dir):
    for rules in RULES.values():
        for name in rules.values():
            pipeline, *path = name.split(".")
            place = _base(project_dir, pipeline)
            for part in path:
                assert part in place, name
                place = place[part]


@pytest.mark.parametrize(
    ("text", "value"),
    [("None", None), ("", None), ("yes", True), ("False", False), ("1e-3", 0.001), ("[1, 2]", [1, 2]),
     ("a, 2", ["a", 2]),
     ("relu", "relu"), ("{'a': 1}", {"a": 1})],
)  # fmt: skip
def test_values(text, value):
    assert parse_value(text) == value


@pytest.mark.parametrize(("text", "message"), [("no section", "INI file"), ("[other]\na = 1\n", "no setting")])
def test_other_files_are_refused(text, message, tmp_path):
    (tmp_path / "x.ini").write_text(text)
    with pytest.raises(ItemError, match=message):
        translate(tmp_path / "x.ini")
    with pytest.raises(ItemError, match="INI file"):
        translate(tmp_path / "absent.ini")


def test_the_command_writes_one_file_and_overwrites_none(ini, tmp_path):
    output = tmp_path / "conf" / "parameters.yml"
    result = CliRunner().invoke(import_config, [str(ini), "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert "autoencoder, import_artefacts, similarity_training" in result.output
    assert "3 settings have no counterpart" in result.output
    assert yaml.safe_load(output.read_text())["autoencoder"]["network"]["n_code"] == 512
    again = CliRunner().invoke(import_config, [str(ini), "--output", str(output)])
    assert again.exit_code != 0
    assert "exists already" in str(again.exception)
