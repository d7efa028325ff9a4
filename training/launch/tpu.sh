#!/usr/bin/env bash
# Train on a TPU v6e slice: make it, install tomat on every host, run the same command on all of them.
#
#   training/launch/tpu.sh create  NAME ZONE TYPE           TYPE: v6e-4, v6e-8 (one host each) or v6e-16 (four hosts)
#   training/launch/tpu.sh install NAME ZONE WHEEL          WHEEL: made by `make wheel`
#   training/launch/tpu.sh train   NAME ZONE CONFIG [--field value ...]
#   training/launch/tpu.sh logs    NAME ZONE CONFIG
#   training/launch/tpu.sh stop    NAME ZONE                the runs save their state and stop
#   training/launch/tpu.sh delete  NAME ZONE
#
# Needs gcloud, logged in, with a project set. Data and runs must be in a bucket (data.densities or data.path, and out: gs://...): hosts
# share no disk. `train` starts one process a host under nohup; JAX finds the slice's hosts by itself and connects them
# before anything else happens. A run that was stopped or preempted goes on with the same `train` command.
set -euo pipefail

RUNTIME=v2-alpha-tpuv6e
usage() { sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "$0"; exit 2; }
on_all() { gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all --command "$1"; }

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
        [ -f "$1" ] || { echo "$1: no such wheel; make one with: make wheel" >&2; exit 1; }
        here=$(cd "$(dirname "$0")/../.." && pwd)
        gcloud compute tpus tpu-vm scp "$1" "$here/constraints.txt" "$name:" --zone "$zone" --worker=all
        on_all "sudo apt-get install -y -q python3.12-venv && python3.12 -m venv ~/tomat-env &&
            ~/tomat-env/bin/pip install -q -c ~/constraints.txt \"\$HOME/$(basename "$1")[train,gcs]\" &&
            ~/tomat-env/bin/pip install -q 'jax[tpu]==0.11.2'"
        ;;
    train)
        [ $# -ge 1 ] || usage
        [ -f "$1" ] || { echo "$1: no such configuration" >&2; exit 1; }
        config=$1
        shift
        gcloud compute tpus tpu-vm scp "$config" "$name:" --zone "$zone" --worker=all
        file=$(basename "$config")
        on_all "nohup ~/tomat-env/bin/tomat train ~/$file $(printf '%q ' "$@") >>~/${file%.yaml}.log 2>&1 </dev/null &"
        ;;
    logs)
        [ $# -eq 1 ] || usage
        file=$(basename "$1")
        gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=0 --command "tail -n 50 -f ~/${file%.yaml}.log"
        ;;
    stop) on_all "pkill -TERM -f 'tomat train' || true" ;;
    delete) gcloud compute tpus tpu-vm delete "$name" --zone "$zone" ;;
    *) usage ;;
esac
