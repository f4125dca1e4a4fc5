"""Runs are tracked by MLflow when the configuration says so, and only then."""

import builtins
import shutil
from types import SimpleNamespace

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from tests.conftest import PROJECT
from thesis_rec import settings
from thesis_rec.base.errors import ConfigurationError
from thesis_rec.hooks import TrackingHooks, figures


def context(tracking):
    return SimpleNamespace(config_loader={"globals": {"tracking": tracking}}, _hook_manager=None)


def test_nothing_is_tracked_by_default():
    hooks = TrackingHooks()
    hooks.after_context_created(SimpleNamespace(config_loader={"globals": {}}))
    # Would import mlflow and fail without it.
    hooks.after_node_run({"evaluation_metrics": None})
    assert "kedro-mlflow" in settings.DISABLE_HOOKS_FOR_PLUGINS


def test_an_installed_plugin_stays_silent():
    pytest.importorskip("kedro_mlflow")
    from importlib.metadata import distribution

    assert distribution("kedro-mlflow").metadata["Name"] in settings.DISABLE_HOOKS_FOR_PLUGINS


def test_an_unknown_choice_names_the_known_ones():
    with pytest.raises(ConfigurationError, match="none, mlflow"):
        TrackingHooks().after_context_created(context("wandb"))


def test_without_the_plugin_the_remedy_is_named(monkeypatch):
    original = builtins.__import__

    def without_plugin(name, *args, **kwargs):
        if name.startswith("kedro_mlflow"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_plugin)
    with pytest.raises(ConfigurationError, match="pip install"):
        TrackingHooks().after_context_created(context("mlflow"))


def test_figures_have_names_that_mlflow_takes():
    interval = {"low": 0.1, "high": 0.3, "n": 4}
    metrics = {"quadrants": {"Q1": {"ridge": {"regret@1": {"mean": 0.2, **interval}, "tau": {"mean": None}}}}}
    assert dict(figures(metrics)) == {"Q1/ridge/regret_at_1": 0.2}


def test_a_run_is_logged(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("kedro_mlflow")
    conf, data = tmp_path / "conf", tmp_path / "data"
    shutil.copytree(PROJECT / "conf", conf, ignore=shutil.ignore_patterns("local"))
    (conf / "local").mkdir()
    (conf / "local" / "globals.yml").write_text(f"tracking: mlflow\ndata_root: {data}\n")
    bootstrap_project(PROJECT)
    with KedroSession.create(project_path=PROJECT, conf_source=str(conf)) as session:
        session.run(pipeline_name="evaluation", node_names=["measure_noise_node"])
    mlflow.set_tracking_uri(f"sqlite:///{data}/08_reporting/mlflow.db")
    (run,) = mlflow.search_runs(experiment_names=["thesis_rec"], output_format="list")
    assert run.info.status == "FINISHED"
    assert "evaluation" in run.data.tags["kedro_command"]
    assert any(name.startswith("evaluation") for name in run.data.params)
