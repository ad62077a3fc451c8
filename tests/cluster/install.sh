#!/usr/bin/env bash
# Installs what tests/cluster needs, Debian's SLURM and munge, where this user may; else says why not and fails.
# No service is started or enabled by it: the tests start daemons of their own.
set -euo pipefail
PATH=$PATH:/usr/sbin:/usr/local/sbin
have() { command -v slurmctld slurmd sbatch munged >/dev/null; }
have && exit 0
command -v apt-get >/dev/null || { echo "No SLURM here, and no apt-get to install it with."; exit 1; }
[ "$(id -u)" = 0 ] || { echo "No SLURM here, and only root may install it (apt-get install slurm-wlm munge)."; exit 1; }
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
install() { apt-get install -qq -y --no-install-recommends slurm-wlm munge >/dev/null 2>&1; }
install || { apt-get update -qq >/dev/null 2>&1 && install; } || true
have || { echo "No SLURM here: apt-get install slurm-wlm munge did not work."; exit 1; }
