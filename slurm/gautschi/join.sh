#!/usr/bin/env bash
# Joins what an array has written on Gautschi, and names every item that is missing. Submit with:
# sbatch --account=<yours> --dependency=afterany:<id of the array> slurm/gautschi/join.sh model_extraction
#SBATCH --job-name=join
#SBATCH --partition=cpu
#SBATCH --nodes=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=00:30:00
#SBATCH --requeue
#SBATCH --signal=USR1@90
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
export DO_NOT_TRACK=1
srun .venv/bin/kedro run --env=gautschi --pipeline="$1" --tags=join
