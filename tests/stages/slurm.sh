#!/usr/bin/env bash
# A SLURM of one machine, for tests: two nodes that believe in many cores, much memory and a GPU each. Needs root and Debian's slurmctld,
# slurmd, slurm-client and munge.
#   slurm.sh start FOLDER
#   slurm.sh stop FOLDER
# Its settings are links in /etc/slurm while it runs, for Snakemake hands no SLURM_CONF on to a job.
set -euo pipefail
action=$1 folder=$(realpath -m "$2")

stop() {
    for name in slurmd-n1 slurmd-n2 slurmctld munged; do
        if [ -s "$folder/$name.pid" ]; then kill "$(cat "$folder/$name.pid")" 2> /dev/null || true; fi
    done
    for name in slurm gres; do
        if [ "$(readlink "/etc/slurm/$name.conf")" = "$folder/$name.conf" ]; then rm "/etc/slurm/$name.conf"; fi
    done
}

if [ "$action" = stop ]; then
    stop
    exit
fi

if [ -e /etc/slurm/slurm.conf ]; then
    echo "slurm.sh: this machine has a SLURM already: /etc/slurm/slurm.conf" >&2
    exit 1
fi
mkdir -p "$folder"/{state,spool-n1,spool-n2,munge}
chmod 700 "$folder/munge"
host=$(hostname -s)
port=$((20000 + RANDOM % 20000))
head -c 1024 /dev/urandom > "$folder/munge/key"
chmod 600 "$folder/munge/key"
munged --force --key-file="$folder/munge/key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
cat > "$folder/slurm.conf" << EOF
ClusterName=cxr
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=20
MinJobAge=300
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=32 RealMemory=200000 Gres=gpu:1
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=32 RealMemory=200000 Gres=gpu:1
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
EOF
printf 'NodeName=n1,n2 Name=gpu File=/dev/null\n' > "$folder/gres.conf"
mkdir -p /etc/slurm
ln -sf "$folder/slurm.conf" "$folder/gres.conf" /etc/slurm/
slurmctld
for node in n1 n2; do slurmd -N "$node"; done
for _ in $(seq 60); do
    if [ "$(sinfo --noheader --format %T --states idle --Node 2> /dev/null | wc -l)" = 2 ]; then
        exit
    fi
    sleep 1
done
sinfo --Node --long >&2 || true
tail -n 5 "$folder"/*.log >&2
stop
exit 1
