"""Project settings: how configuration is read and which hooks run."""

import os

from omegaconf.resolvers import oc

from thesis_rec.door.configuration import MergedGlobalsConfigLoader
from thesis_rec.door.tracking import TrackingHooks
from thesis_rec.hooks import ConfigureProcessHooks, RunReportHooks
from thesis_rec.pipelines.fetch_hooks import FetchHooks

HOOKS = (ConfigureProcessHooks(), FetchHooks(), RunReportHooks(), TrackingHooks())

# kedro-mlflow acts when the globals ask for it, not because it is installed. Its releases spell their name both ways.
# kedro-viz rewrites .viz/stats.json at the end of every run: many jobs of an array would write the same file.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow", "kedro_mlflow", *(("kedro-viz",) if "SLURM_JOB_ID" in os.environ else ()))

CONFIG_LOADER_CLASS = MergedGlobalsConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # Soft: an environment that changes one knob keeps the others of the same pipeline.
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
    "custom_resolvers": {"oc.env": oc.env},
}
