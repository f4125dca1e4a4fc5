"""Optional tracking of runs with MLflow, switched on by ``tracking: mlflow`` in the globals."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl

from thesis_rec.base.errors import ConfigurationError

CHOICES = ("none", "mlflow")


class TrackingHooks:
    """Hands runs to kedro-mlflow, which logs their parameters, and adds the figures of the evaluation.

    The plugin's own hooks are disabled in the settings: they would act whenever the plugin is installed.
    """

    def __init__(self) -> None:
        self._on = False

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
