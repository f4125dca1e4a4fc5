#!/usr/bin/env bash
# Any stage on any cluster; `kedro submit --env=ENV --pipelines=PIPELINE --shards=N --dry-run` prints the line that
# submits it, with the partition, account, GPUs, memory and time of conf/ENV/parameters/cluster.yml:
#   sbatch --partition=... --account=... slurm/stage.sh ENV PIPELINE [further options of kedro run]
# In a job array (--array=0-15) each task takes its share of the manifest; a job with --tags=join follows the array
# (--dependency=afterany:<its id>) and names every item that is missing.
#SBATCH --requeue
#SBATCH --signal=USR1@90
#SBATCH --open-mode=append
set -euo pipefail
export DO_NOT_TRACK=1
options=(--env="$1" --pipelines="$2" "${@:3}")
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    options+=(--params="shard.index=$SLURM_ARRAY_TASK_ID,shard.count=$SLURM_ARRAY_TASK_COUNT")
fi
srun .venv/bin/kedro run "${options[@]}"
