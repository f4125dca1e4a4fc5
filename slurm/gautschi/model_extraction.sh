#!/usr/bin/env bash
# The stage model_extraction on Gautschi, as an array; slurm/gautschi/join.sh follows it. Submit with:
# sbatch --account=<yours> --array=0-15 slurm/gautschi/model_extraction.sh
#SBATCH --job-name=model_extraction
#SBATCH --partition=cpu
#SBATCH --nodes=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=02:00:00
#SBATCH --array=0-7
#SBATCH --requeue
#SBATCH --signal=USR1@90
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail
export DO_NOT_TRACK=1
srun .venv/bin/kedro run --env=gautschi --pipeline=model_extraction \
    --params="shard.index=$SLURM_ARRAY_TASK_ID,shard.count=$SLURM_ARRAY_TASK_COUNT"
