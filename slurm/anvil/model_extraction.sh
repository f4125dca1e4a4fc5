#!/usr/bin/env bash
# The stage model_extraction on Anvil. Submit with: sbatch --account=<yours> slurm/anvil/model_extraction.sh
#SBATCH --job-name=model_extraction
#SBATCH --partition=shared
#SBATCH --nodes=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=02:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
#SBATCH --array=0-7
set -euo pipefail
export DO_NOT_TRACK=1
srun uv run --no-sync kedro run --env=anvil --pipeline=model_extraction --params=shard.index=$SLURM_ARRAY_TASK_ID,shard.count=$SLURM_ARRAY_TASK_COUNT
