"""Kedro hooks: a quiet, well-behaved process, a report of every run, and, if asked for, tracking with MLflow."""

import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.files import encode_id, write_json

logger = logging.getLogger(__name__)

_VERSIONED = ("kedro", "torch", "timm", "transformers", "open_clip_torch", "numpy", "pandas")


class ConfigureProcessHooks:
    """Sets what must be set before the first heavy import, frees memory between nodes."""

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Quieten libraries that talk to terminals or to the network without being asked.

        What they download by themselves, image encoders and datasets, goes where the globals say.
        """
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        cache = context.project_path / Path(context.config_loader["globals"]["hub_cache"]).expanduser()
        os.environ.setdefault("HF_HOME", str(cache))

    @hook_impl
    def after_node_run(self) -> None:
        """Give a node's GPU memory back before the next one starts."""
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


class RunReportHooks:
    """Writes ``08_reporting/run_report.json`` and prints a short summary of what a run made, and what failed."""

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Learn where reports go."""
        settings = context.config_loader["globals"]
        root = Path(context.project_path) / settings["data_root"]
        self._path = root / "08_reporting" / "run_report.json"
        self._seed = settings.get("seed")

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Start the clock."""
        self._started = time.time()
        self._node_started: dict[str, float] = {}
        self._nodes: list[dict[str, Any]] = []
        self._failures: dict[str, int] = {}

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Start a node's clock."""
        self._node_started[node.name] = time.perf_counter()

    @hook_impl
    def after_node_run(self, node: Node, outputs: dict[str, Any]) -> None:
        """Note a node's time, the process's peak memory and how many items failed."""
        seconds = time.perf_counter() - self._node_started.pop(node.name)
        self._nodes.append({"name": node.name, "seconds": round(seconds, 3), "peak_memory_mb": peak_memory_mb()})
        for name, data in outputs.items():
            if name.endswith("_failures") and hasattr(data, "__len__"):
                self._failures[name] = len(data)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: Any) -> None:
        """Write the report and print the summary."""
        self._finish(run_params, sorted(pipeline.outputs()), error=None)

    @hook_impl
    def on_pipeline_error(self, error: Exception, run_params: dict[str, Any], pipeline: Pipeline) -> None:
        """Write the report of a run that failed, so that its timings aren't lost."""
        self._finish(run_params, [], error=f"{type(error).__name__}: {error}")

    def _finish(self, run_params: dict[str, Any], outputs: list[str], error: str | None) -> None:
        seconds = time.time() - self._started
        runtime = json.loads(json.dumps(run_params.get("runtime_params") or {}, default=str))
        shards = runtime.get("shard", {}).get("count", 1)
        report: dict[str, Any] = {
            "pipeline": ",".join(run_params.get("pipeline_names") or []) or "__default__",
            "environment": run_params.get("env") or "local",
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self._started)),
            "seconds": round(seconds, 2),
            "peak_memory_mb": peak_memory_mb(),
            "error": error,
            "seed": runtime.get("seed", self._seed),
            "runtime_params": runtime,
            "failures": self._failures,
            "outputs": outputs,
            "nodes": self._nodes,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _VERSIONED}},
            "git": git_state(),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
            "slurm_task": os.environ.get("SLURM_ARRAY_TASK_ID"),
        }
        # One report a task of a pipeline's array: arrays and tasks that end at once must not replace each other's.
        task, name = report["slurm_task"], encode_id(report["pipeline"])
        path = self._path if task is None else self._path.with_stem(f"run_report_{name}_{task}")
        try:
            write_json(path, report)
            for node in self._nodes:
                # The newest run of each node, so that `kedro submit` can tell how long a job takes.
                times = {"seconds": node["seconds"], "started": report["started"], "shards": shards}
                write_json(path.with_name("node_times") / f"{encode_id(node['name'])}.json", times)
        except OSError as reason:
            # A full or read-only disk must not hide why the run itself failed.
            logger.warning("the run report can't be written: %s", reason)
        failed = ", ".join(f"{count} in {name}" for name, count in self._failures.items() if count)
        logger.info(
            "%s: %d steps in %.1f s, peak memory %.0f MB; %s",
            "failed" if error else "finished",
            len(self._nodes),
            seconds,
            report["peak_memory_mb"],
            f"FAILURES AND NOTES: {failed}" if failed else "no item failed",
        )


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux kibibytes.
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def git_state() -> dict[str, Any] | None:
    """Commit and cleanliness of the checkout, or None outside one."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=5)
        status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "clean": not status.stdout.strip()}


CHOICES = ("none", "mlflow")


class TrackingHooks:
    """Hands runs to kedro-mlflow, which logs their parameters, and adds the figures of the evaluation.

    The plugin's own hooks are disabled in the settings: they would act whenever the plugin is installed.
    """

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Switch tracking on if the globals say so.

        Raises:
            ConfigurationError: If the choice is unknown, or the plugin isn't installed.
        """
        chosen = context.config_loader["globals"].get("tracking", "none")
        if chosen not in CHOICES:
            raise ConfigurationError(f"The global 'tracking' is {chosen!r}; choose one of {', '.join(CHOICES)}.")
        self._on = chosen == "mlflow"
        if not self._on:
            return
        try:
            from kedro_mlflow.framework.hooks.mlflow_hook import mlflow_hook
        except ImportError as error:
            hint = "run `pip install -e '.[mlflow]'`."
            raise ConfigurationError(f"The global 'tracking: mlflow' needs kedro-mlflow: {hint}") from error
        # The database of the local store is written there, perhaps before anything else.
        root = context.config_loader["globals"]["data_root"]
        (Path(context.project_path) / root / "08_reporting").mkdir(parents=True, exist_ok=True)
        manager = context._hook_manager
        if not manager.is_registered(mlflow_hook):
            manager.register(mlflow_hook)
            mlflow_hook.after_context_created(context)

    @hook_impl
    def after_node_run(self, outputs: dict[str, Any]) -> None:
        """Log the figures of an evaluation."""
        if self._on and "evaluation_metrics" in outputs:
            import mlflow

            mlflow.log_metrics(dict(figures(outputs["evaluation_metrics"])))


def figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every method's mean figures as ``quadrant/method/metric``; MLflow allows no ``@`` in names."""
    for quadrant, methods in metrics["quadrants"].items():
        for method, found in methods.items():
            for metric, interval in found.items():
                if interval["mean"] is not None:
                    yield f"{quadrant}/{method}/{metric}".replace("@", "_at_"), float(interval["mean"])
