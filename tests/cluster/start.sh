#!/usr/bin/env bash
# A SLURM cluster of one node with two fake GPUs, for tests: needs neither systemd nor root, and touches nothing
# outside the folder that it is given. It says where its configuration is:
#
#   export SLURM_CONF=$(tests/cluster/start.sh FOLDER) PATH=FOLDER/bin:$PATH     then sbatch, squeue, ... speak to it
#   tests/cluster/stop.sh FOLDER                           ends what was started, by process id
#
# The folder must be new or empty, its path short: a socket's path has at most 107 characters.
set -euo pipefail
PATH=$PATH:/usr/sbin:/usr/local/sbin
mkdir -p "$1"
folder=$(cd "$1" && pwd)
user=$(id -un)
node=$(hostname -s)
mkdir "$folder"/{munge,state,spool,log}
chmod 755 "$folder" "$folder/munge"
chmod 700 "$folder/state" "$folder/log"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Who asks is who they say: a key and a socket of this cluster's own.
(umask 077; head -c 1024 /dev/urandom > "$folder/munge/key")
munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --seed-file="$folder/munge/seed" \
    --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" >"$folder/log/munged" 2>&1

# Every CPU of this machine, and 16 GB whatever it has (config_overrides): nothing here needs them.
cat > "$folder/slurm.conf" <<CONF
ClusterName=tests
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
ReturnToService=2
KillWait=2
MinJobAge=7200
JobRequeue=0
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/log/jobs
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(env -u OMP_NUM_THREADS nproc) RealMemory=$(awk '/^MemTotal/ { m = int($2 / 1024) - 256; print m < 16000 ? m : 16000 }' /proc/meminfo) Gres=gpu:fake:2 State=UNKNOWN
PartitionName=gpu Nodes=$node Default=YES MaxTime=600 State=UP
CONF
# Any character device passes for a GPU.
printf 'NodeName=%s Name=gpu Type=fake File=%s\n' "$node" /dev/null "$node" /dev/zero > "$folder/gres.conf"
printf 'CgroupPlugin=autodetect\nIgnoreSystemd=yes\nConstrainCores=no\nConstrainRAMSpace=no\n' > "$folder/cgroup.conf"

export SLURM_CONF=$folder/slurm.conf
# Snakemake's jobs drop every SLURM_* variable before they call srun, this one too.
mkdir "$folder/bin"
printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" > "$folder/bin/srun"
chmod +x "$folder/bin/srun"
slurmctld >"$folder/log/start" 2>&1
slurmd >>"$folder/log/start" 2>&1
for _ in $(seq 120); do
    if [ "$(sinfo -h -o %T 2>/dev/null)" = idle ]; then
        echo "$SLURM_CONF"
        exit 0
    fi
    sleep 0.25
done
echo "The cluster in $folder did not become ready within 30 seconds. Its node says: $(sinfo -h -o '%T %E' 2>&1)" >&2
tail -n 20 "$folder"/log/* >&2
"$(dirname "$0")/stop.sh" "$folder"
exit 1
