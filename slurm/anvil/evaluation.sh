#!/usr/bin/env bash
# The stage evaluation on Anvil. Submit with: sbatch --account=<yours> slurm/anvil/evaluation.sh
#SBATCH --job-name=evaluation
#SBATCH --partition=shared
#SBATCH --nodes=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=15G
#SBATCH --time=02:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@90
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
export DO_NOT_TRACK=1
srun .venv/bin/kedro run --env=anvil --pipeline=evaluation
