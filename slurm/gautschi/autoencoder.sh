#!/usr/bin/env bash
# The stage autoencoder on Gautschi. Submit with: sbatch --account=<yours> slurm/gautschi/autoencoder.sh
#SBATCH --job-name=autoencoder
#SBATCH --partition=cpu
#SBATCH --nodes=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=02:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@90
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
export DO_NOT_TRACK=1
srun .venv/bin/kedro run --env=gautschi --pipeline=autoencoder
