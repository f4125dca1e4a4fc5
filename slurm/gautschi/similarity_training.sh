#!/usr/bin/env bash
# The stage similarity_training on Gautschi. Submit with: sbatch --account=<yours> slurm/gautschi/similarity_training.sh
#SBATCH --job-name=similarity_training
#SBATCH --partition=ai
#SBATCH --nodes=1
#SBATCH --cpus-per-task=14
#SBATCH --mem=32G
#SBATCH --time=02:00:00
#SBATCH --gpus-per-node=1
#SBATCH --requeue
#SBATCH --signal=USR1@90
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
export DO_NOT_TRACK=1
srun .venv/bin/kedro run --env=gautschi --pipeline=similarity_training
