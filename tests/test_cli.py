"""What a user reads when a command can't do what was asked."""

import os
import subprocess
import sys
import warnings

import pytest
from click import Context
from click.testing import CliRunner
from kedro.io import DatasetError

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.cli import cli, known_error, run
from thesis_rec.pipeline_registry import ALIASES, NAMES, pipeline_name, register_pipelines


def test_the_names_are_those_that_are_registered():
    assert set(NAMES) == set(register_pipelines())
    assert set(ALIASES.values()) <= set(NAMES)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("evaluation", "evaluation"), ("modelautoencoder", "autoencoder"), ("Model_AutoEncoder", "autoencoder")],
)
def test_pipelines_by_the_names_of_the_thesis_code(given, meant):
    assert pipeline_name(given) == meant


@pytest.mark.parametrize("option", ["--pipeline=autoencoders", "--pipelines=evaluation,autoencoders"])
def test_an_unknown_pipeline_is_one_line_with_the_nearest_name(option):
    result = CliRunner().invoke(run, [option])
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "There is no pipeline 'autoencoders'. Did you mean autoencoder?" in result.stderr
    with pytest.raises(ConfigurationError, match="similarity_training"):
        pipeline_name("nothing like it")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--nodes=fit_knowledge_nod"],
            "__default__ has no node 'fit_knowledge_nod'. Did you mean fit_knowledge_node?",
        ),
        (["--pipelines=autoencoder", "--tags=nope"], "autoencoder has no tag 'nope'."),
        (["--runner=NoRunner"], "module 'kedro.runner' has no attribute 'NoRunner'"),
    ],
)
def test_an_unknown_node_tag_or_runner_is_one_line_with_the_nearest_name(options, told):
    result = CliRunner().invoke(run, options)
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert told in result.stderr


def test_jobs_are_submitted_by_the_same_names():
    result = CliRunner().invoke(cli.commands["submit"], ["--env=anvil", "--pipelines=modelautoencoder,nope"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: There is no pipeline 'nope'.")


def test_the_jobs_to_wait_for_are_checked_and_shown(monkeypatch, tmp_path):
    """A blank in the list was part of an id, and the dry run passed with any text."""
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    monkeypatch.setenv("THESIS_REC_ACCOUNT", "mine")
    options = ["--env=anvil", "--pipelines=model_extraction", "--dry-run"]
    submit = cli.commands["submit"]
    result = CliRunner().invoke(submit, [*options, "--after=12, 7_3"])
    assert "model_extraction: 1 task(s) after 12, 7_3;" in result.output
    result = CliRunner().invoke(submit, [*options, "--after=12:13"])
    assert result.exit_code == 1
    assert result.stderr == "Error: --after takes ids of jobs as squeue lists them; '12:13' is none.\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ground_truth.dataset=x", "ground_truth.dataset"),
        ("grund_truth.models=x", "nothing takes 'grund_truth'"),
        ("ground_truth.linear_probe.shots=many", "ground_truth.linear_probe.shots"),
    ],
)
def test_parameters_that_no_job_would_take_are_refused_before_one_is_submitted(given, said, monkeypatch, tmp_path):
    """A job that waited a night failed on a typo."""
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    monkeypatch.setenv("THESIS_REC_ACCOUNT", "mine")
    options = ["--env=anvil", "--pipelines=ground_truth", "--dry-run", f"--params={given}"]
    result = CliRunner().invoke(cli.commands["submit"], options)
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("option", ["--pipeline=modelautoencoder", "--pipelines=autoencoder", "-p=autoencoder"])
def test_either_option_runs_the_pipeline_without_a_warning(option, monkeypatch):
    asked = {}
    from kedro.framework.session import KedroSession

    class Session:
        def __enter__(self):
            return self

        def __exit__(self, *arguments):
            return None

        def run(self, **keywords):
            asked.update(keywords)

    monkeypatch.setattr(KedroSession, "create", lambda **keywords: Session())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = CliRunner().invoke(run, option.split("="), catch_exceptions=False)
    assert result.exit_code == 0
    assert asked["pipeline_names"] == ["autoencoder"]


def test_kedro_s_own_errors_are_one_line():
    from kedro.validation.exceptions import ParameterValidationError

    message = """Parameter validation failed:
- Parameter 'autoencoder': Failed to instantiate AutoencoderParameters for parameter 'autoencoder': 2 validation errors for AutoencoderParameters
fitt
  Extra inputs are not permitted [type=extra_forbidden, input_value=3, input_type=int]
    For further information visit https://errors.pydantic.dev/2.14/v/extra_forbidden
fit.epochs
  Input should be a valid integer [type=int_type, input_value=None, input_type=NoneType]
    For further information visit https://errors.pydantic.dev/2.14/v/int_type"""  # noqa: E501
    assert known_error(ParameterValidationError(message)) == (
        "autoencoder.fitt: Extra inputs are not permitted; autoencoder.fit.epochs: Input should be a valid integer"
    )
    assert known_error(ParameterValidationError("something\n  else")) == "something else"
    assert known_error(DatasetError("Failed while loading\n data from x")) == "Failed while loading data from x"
    assert known_error(ValueError("a bug")) is None


def test_every_command_is_found_by_its_name():
    with Context(cli) as context:
        names = cli.list_commands(context)
        assert names == ["bundle", "import-config", "recommend", "run", "submit"]
        assert [cli.get_command(context, name).name for name in names] == names


@pytest.mark.parametrize(
    ("arguments", "told"), [(["recommend", "images"], True), (["recommend", "-h"], False), (["run"], False)]
)
def test_people_at_a_terminal_are_told_at_once_that_an_answer_begins(arguments, told):
    program = f"import sys; sys.argv = ['kedro', *{arguments!r}]; import thesis_rec.settings"
    ours, theirs = os.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stderr=theirs):
        os.close(theirs)
        try:
            said = os.read(ours, 4096).decode()
        except OSError:
            said = ""  # So Linux says that nobody writes any more.
    os.close(ours)
    assert said.startswith("reading") == told
