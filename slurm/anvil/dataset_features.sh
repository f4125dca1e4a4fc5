#!/usr/bin/env bash
# The stage dataset_features on Anvil, as an array; slurm/anvil/join.sh follows it. Submit with:
# sbatch --account=<yours> --array=0-15 slurm/anvil/dataset_features.sh
#SBATCH --job-name=dataset_features
#SBATCH --partition=gpu
#SBATCH --nodes=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=60G
#SBATCH --time=02:00:00
#SBATCH --gpus-per-node=1
#SBATCH --array=0-7
#SBATCH --requeue
#SBATCH --signal=USR1@90
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail
export DO_NOT_TRACK=1
srun .venv/bin/kedro run --env=anvil --pipeline=dataset_features \
    --params="shard.index=$SLURM_ARRAY_TASK_ID,shard.count=$SLURM_ARRAY_TASK_COUNT"
