#!/usr/bin/env bash
# The stage dataset_features on Gautschi, as an array; slurm/gautschi/join.sh follows it. Submit with:
# sbatch --account=<yours> --array=0-15 slurm/gautschi/dataset_features.sh
#SBATCH --job-name=dataset_features
#SBATCH --partition=ai
#SBATCH --nodes=1
#SBATCH --cpus-per-task=14
#SBATCH --mem=32G
#SBATCH --time=02:00:00
#SBATCH --gpus-per-node=1
#SBATCH --array=0-7
#SBATCH --requeue
#SBATCH --signal=USR1@90
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail
export DO_NOT_TRACK=1
srun .venv/bin/kedro run --env=gautschi --pipeline=dataset_features \
    --params="shard.index=$SLURM_ARRAY_TASK_ID,shard.count=$SLURM_ARRAY_TASK_COUNT"
