#!/usr/bin/env bash
# Any stage on any cluster; `kedro submit --env=ENV --pipelines=PIPELINE --shards=N --dry-run` prints the line that
# submits it, with the partition, account, GPUs, memory and time of conf/ENV/parameters/cluster.yml:
#   sbatch --partition=... --account=... slurm/stage.sh ENV PIPELINE [further options of kedro run]
# In a job array (--array=0-15) each task takes its share of the manifest; a job with --tags=join follows the array
# (--dependency=afterany:<its id>) and names every item that is missing. Some tasks of an array run again by
#   sbatch --array=3,7 ... slurm/stage.sh ENV PIPELINE --params=shard.count=16
#SBATCH --requeue
#SBATCH --signal=B:USR1@90
#SBATCH --open-mode=append
set -euo pipefail
export DO_NOT_TRACK=1
# `kedro submit` names the Python that it runs by.
kedro=(${THESIS_REC_PYTHON:+"$THESIS_REC_PYTHON" -m kedro})
[ ${#kedro[@]} -gt 0 ] || kedro=(.venv/bin/kedro)
options=(--env="$1" --pipelines="$2")
shift 2
# `kedro run` heeds the last --params alone: the shard's are added to those that were given.
params=
while [ $# -gt 0 ]; do
    case "$1" in
        --params=*) params+=",${1#--params=}" ;;
        --params) params+=",$2"; shift ;;
        *) options+=("$1") ;;
    esac
    shift
done
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    if [[ ",$params," != *,shard.count=* ]]; then
        if [ "$SLURM_ARRAY_TASK_COUNT" -ne $((SLURM_ARRAY_TASK_MAX + 1)) ]; then
            echo "This array isn't 0 to N-1: say how many tasks the whole has, --params=shard.count=N." >&2
            exit 2
        fi
        params+=",shard.count=$SLURM_ARRAY_TASK_COUNT"
    fi
    params+=",shard.index=$SLURM_ARRAY_TASK_ID"
fi
# A job that is told its time is up puts itself back into the queue. Nothing is saved then: a training run resumes from
# its latest epoch, which lies on disk already, and every other result is a file that is whole or absent.
job=${SLURM_ARRAY_TASK_ID:+${SLURM_ARRAY_JOB_ID:-}_$SLURM_ARRAY_TASK_ID}
requeue() {
    # A run that never gets on, because one item takes longer than the job may, ends some time.
    if [ "${SLURM_RESTART_COUNT:-0}" -ge 10 ]; then
        echo "This job ran out of time eleven times: give it more time or more tasks, and submit it again." >&2
    else
        scontrol requeue "${job:-$SLURM_JOB_ID}" || echo "This job could not be requeued: submit it again." >&2
    fi
}
trap requeue USR1
# From SLURM 22.05 to 23.02 srun doesn't take over the cores of a job's task: the run would be bound to one.
srun ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} "${kedro[@]}" run "${options[@]}" ${params:+--params="${params#,}"} &
# The signal interrupts the waiting, not the run.
while status=0; wait $! || status=$?; kill -0 $! 2>/dev/null; do :; done
exit "$status"
