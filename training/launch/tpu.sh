#!/usr/bin/env bash
# Train on a TPU v6e slice: make it, install tomat on every host, run the same command on all of them.
#
#   training/launch/tpu.sh create  NAME ZONE TYPE           TYPE: v6e-4, v6e-8 (one host each) or v6e-16 (four hosts)
#   training/launch/tpu.sh install NAME ZONE WHEEL          WHEEL: made by `make wheel`
#   training/launch/tpu.sh train   NAME ZONE CONFIG [--field value ...]
#   training/launch/tpu.sh logs    NAME ZONE CONFIG
#   training/launch/tpu.sh stop    NAME ZONE                the runs save their state and stop; waits until they have
#   training/launch/tpu.sh delete  NAME ZONE
#
# Needs gcloud, logged in, with a project set. Data and runs must be in a bucket (data.densities or data.path, and out: gs://...): hosts
# share no disk. `train` starts one process a host under nohup; JAX finds the slice's hosts by itself and connects them
# before anything else happens. A run that was stopped or preempted goes on with the same `train` command.
set -euo pipefail

RUNTIME=v2-alpha-tpuv6e
# The process that trains on a host (a TPU takes one), and for the remote shell: its number, and whether it is there.
PID='~/tomat-train.pid'
ALIVE="pid=\$(cat $PID 2>/dev/null); alive() { [ -n \"\$pid\" ] && grep -qs tomat /proc/\$pid/cmdline; }"
usage() { sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "$0"; exit 2; }
fail() { echo "$1" >&2; exit 1; }
on_all() { gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all --command "$1"; }
copy() { gcloud compute tpus tpu-vm scp "$@" "$name:" --zone "$zone" --worker=all; }
# Words as any remote shell reads them back: none for no arguments.
quoted() { for word in "$@"; do printf " '%s'" "${word//\'/\'\\\'\'}"; done; }
# A file here with a folder in its name: scp takes what is before a colon for a host, and a dash for an option.
here() { case $1 in /*) printf %s "$1" ;; *) printf %s "./$1" ;; esac; }
# A file in the home of the hosts.
there() { printf %s '~/'; quoted "$1" | cut -c 2-; }

[ $# -ge 3 ] || usage
action=$1 name=$2 zone=$3
shift 3
case $action in
    create)
        [ $# -eq 1 ] || usage
        case $1 in v6e-4 | v6e-8 | v6e-16) ;; *) echo "unknown type $1: v6e-4, v6e-8 or v6e-16" >&2; exit 2 ;; esac
        gcloud compute tpus tpu-vm create "$name" --zone "$zone" --accelerator-type "$1" --version "$RUNTIME"
        ;;
    install)
        [ $# -eq 1 ] || usage
        [ -f "$1" ] || fail "$1: no such wheel; make one with: make wheel"
        root=$(cd "$(dirname "$0")/../.." && pwd)
        copy "$(here "$1")" "$root/constraints.txt"
        on_all "sudo apt-get install -y -q python3.12-venv && python3.12 -m venv ~/tomat-env &&
            ~/tomat-env/bin/pip install -q -c ~/constraints.txt $(there "${1##*/}")'[train,gcs]' &&
            ~/tomat-env/bin/pip install -q -c ~/constraints.txt 'jax[tpu]==0.11.2'"
        ;;
    train)
        [ $# -ge 1 ] || usage
        [ -f "$1" ] || fail "$1: no such configuration"
        file=${1##*/}
        copy "$(here "$1")"
        shift
        log=$(there "${file%.*}.log")
        on_all "$ALIVE
            if alive; then
                echo \"\$(hostname): process \$pid is training here already; stop it first: tpu.sh stop$(quoted "$name" "$zone")\" >&2
                exit 1
            fi
            nohup ~/tomat-env/bin/tomat train $(there "$file")$(quoted "$@") >>$log 2>&1 </dev/null &
            pid=\$!
            echo \$pid >$PID
            sleep 1
            if ! alive; then
                echo \"\$(hostname): training ended at once; its last words:\" >&2
                tail -n 5 $log >&2
                exit 1
            fi"
        ;;
    logs)
        [ $# -eq 1 ] || usage
        file=${1##*/}
        gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=0 --command "tail -n 50 -f $(there "${file%.*}.log")"
        ;;
    stop)
        # By the number that `train` wrote down: a pattern of names would find the shell that looks for it.
        on_all "$ALIVE
            if ! alive; then
                echo \"\$(hostname): nothing is training here\"
                exit 0
            fi
            kill -TERM \$pid
            for second in \$(seq 900); do
                alive || { rm -f $PID; exit 0; }
                sleep 1
            done
            echo \"\$(hostname): process \$pid is still saving after 15 minutes; see its log\" >&2
            exit 1"
        ;;
    delete) gcloud compute tpus tpu-vm delete "$name" --zone "$zone" ;;
    *) usage ;;
esac
