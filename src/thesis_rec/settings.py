"""Project settings: how configuration is read and which hooks run."""

import os
import sys

if sys.argv[1:2] == ["recommend"] and not {"-h", "--help"} & set(sys.argv) and sys.stderr.isatty():
    # The first code of ours that Kedro runs, before what takes its time to import: people see that something happens.
    sys.stderr.write("reading what is known ...\n")

from thesis_rec.door.configuration import ARGUMENTS, MergedGlobalsConfigLoader
from thesis_rec.hooks import ConfigureProcessHooks, RunReportHooks, TrackingHooks
from thesis_rec.pipelines.fetch_hooks import FetchHooks

HOOKS = (ConfigureProcessHooks(), FetchHooks(), RunReportHooks(), TrackingHooks())

# kedro-mlflow acts when the globals ask for it, not because it is installed. Its releases spell their name both ways.
# kedro-viz rewrites .viz/stats.json at the end of every run: many jobs of an array would write the same file.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow", "kedro_mlflow", *(("kedro-viz",) if "SLURM_JOB_ID" in os.environ else ()))

CONFIG_LOADER_CLASS, CONFIG_LOADER_ARGS = MergedGlobalsConfigLoader, ARGUMENTS
