#!/usr/bin/env bash
# Ends the cluster that start.sh started in this folder: its jobs, then its daemons by their process ids.
set -u
folder=$(cd "$1" && pwd) || exit 1
export SLURM_CONF=$folder/slurm.conf

stop() {
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 0
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 40); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.25; done
    kill -9 "$pid" 2>/dev/null
}

if [ -f "$folder/slurmctld.pid" ]; then
    timeout 10 scancel --user "$(id -un)" 2>/dev/null
    for _ in $(seq 40); do [ -n "$(timeout 10 squeue -h 2>/dev/null)" ] || break; sleep 0.25; done
fi
stop "$folder/slurmd.pid"
stop "$folder/slurmctld.pid"
stop "$folder/munge/pid"
