#!/usr/bin/env bash
# The stage similarity_training on Anvil. Submit with: sbatch --account=<yours> slurm/anvil/similarity_training.sh
#SBATCH --job-name=similarity_training
#SBATCH --partition=gpu
#SBATCH --nodes=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=60G
#SBATCH --time=02:00:00
#SBATCH --gpus-per-node=1
#SBATCH --requeue
#SBATCH --signal=USR1@90
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
export DO_NOT_TRACK=1
srun .venv/bin/kedro run --env=anvil --pipeline=similarity_training
