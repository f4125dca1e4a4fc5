#!/usr/bin/env bash
# The stage dataset_features on Gautschi. Submit with: sbatch --account=<yours> slurm/gautschi/dataset_features.sh
#SBATCH --job-name=dataset_features
#SBATCH --partition=ai
#SBATCH --nodes=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=02:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
#SBATCH --array=0-7
#SBATCH --gpus-per-node=1
set -euo pipefail
export DO_NOT_TRACK=1
srun uv run --no-sync kedro run --env=gautschi --pipeline=dataset_features --params=shard.index=$SLURM_ARRAY_TASK_ID,shard.count=$SLURM_ARRAY_TASK_COUNT
