#!/usr/bin/env bash
# The stage similarity_training on Anvil. Submit with: sbatch --account=<yours> slurm/anvil/similarity_training.sh
#SBATCH --job-name=similarity_training
#SBATCH --partition=gpu
#SBATCH --nodes=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=02:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
#SBATCH --gpus-per-node=1
set -euo pipefail
export DO_NOT_TRACK=1
srun uv run --no-sync kedro run --env=anvil --pipeline=similarity_training
