#!/usr/bin/env bash
# Trains, or goes on from the last checkpoint of a run that was interrupted.
#
#   cluster/train_or_resume.sh FOLDER [what `python -m rllib_hetero train` takes]
#
# FOLDER is the run's own, on storage that outlives the machine. What restarts jobs (Slurm's
# requeue, a RayJob's retry) gives the same command again, so the command has to find out by itself
# which of the two it is.
set -euo pipefail

if (($# < 1)) || [[ $1 == -* ]]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
folder=$1
shift

# `train` writes a first checkpoint, then this file; a folder that has it, it refuses.
# `exec`: SIGTERM has to reach Python, which then writes a checkpoint.
if [[ -e $folder/progress.csv ]]; then
    echo "going on with the run in $folder"
    exec python -u -m rllib_hetero resume "$folder"
fi
exec python -u -m rllib_hetero train "$@" --out "$folder"
