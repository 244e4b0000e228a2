#!/usr/bin/env bash
# A Slurm cluster of this one machine, to try `hydra/launcher=submitit_slurm` on: needs root, and Debian or Ubuntu.
#
#   tools/one_node_slurm.sh start    install slurm-wlm where it is missing, start munged, slurmctld and slurmd
#   tools/one_node_slurm.sh stop     stop them, and forget all jobs
#
# `start` prints the line that makes a shell use it. Jobs run as root, without limits: for tests only.
set -euo pipefail
state=${SET_SLURM_FOLDER:-/tmp/one-node-slurm}
export SLURM_CONF=$state/slurm.conf

stop() {
    for daemon in slurmd slurmctld munged; do
        [ -f "$state/$daemon.pid" ] && kill "$(cat "$state/$daemon.pid")" 2> /dev/null || true
    done
    for _ in $(seq 50); do
        pgrep -F "$state/slurmd.pid" > /dev/null 2>&1 || pgrep -F "$state/slurmctld.pid" > /dev/null 2>&1 || break
        sleep 0.1
    done
    rm -rf "$state"
}

install() {
    command -v slurmctld > /dev/null && command -v slurmd > /dev/null && command -v munged > /dev/null && return
    command -v apt-get > /dev/null || { echo "no slurmctld here, and no apt-get to install it with" >&2; exit 1; }
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update > /dev/null && apt-get -qq install --no-install-recommends -y slurm-wlm munge > /dev/null
}

start() {
    [ "$(id -u)" = 0 ] || { echo "needs root: Slurm's daemons start jobs as their owners" >&2; exit 1; }
    install
    stop
    mkdir -p "$state"/{spool,ctld,munge}
    chmod 755 "$state" "$state/munge"
    chown -R munge "$state/munge"
    # munged insists on folders that nobody else can write to, so its socket and log are in one of its own.
    dd if=/dev/urandom of="$state/munge/key" bs=1024 count=1 status=none
    chown munge "$state/munge/key" && chmod 400 "$state/munge/key"
    host=$(hostname -s)
    cat > "$SLURM_CONF" <<END
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$state/munge/socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=10
SlurmctldTimeout=300
SlurmdTimeout=300
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
SlurmdSpoolDir=$state/spool
StateSaveLocation=$state/ctld
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(env -u OMP_NUM_THREADS nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
    # Requeued jobs wait for two minutes by default, which is the time that a node gets to recover.
    runuser -u munge -- munged --key-file="$state/munge/key" --socket="$state/munge/socket" \
        --pid-file="$state/munge/munged.pid" --log-file="$state/munge/log" --seed-file="$state/munge/seed" --force
    ln -sf "$state/munge/munged.pid" "$state/munged.pid"
    slurmctld -c
    slurmd -c
    for _ in $(seq 100); do
        if [ "$(sinfo --noheader --format=%T 2> /dev/null)" = idle ]; then
            echo "export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.2
    done
    echo "Slurm did not start: see $state/*.log" >&2
    tail -n 5 "$state"/*.log >&2
    exit 1
}

case ${1:-} in
    start | stop) "$1" ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
