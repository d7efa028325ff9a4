#!/usr/bin/env bash
# Train on the GPUs of this machine.
#
#   training/launch/gpu.sh install WHEEL            into ./tomat-env; WHEEL is made by `make wheel`
#   training/launch/gpu.sh train CONFIG [--field value ...]
#
# One process drives all GPUs it sees (CUDA_VISIBLE_DEVICES chooses); parameters and optimizer are sharded over them
# and the batch is split. Several machines: start the same command on each, with
#   --trainer.distributed.coordinator_address HOST0:1234 --trainer.distributed.num_processes N
#   --trainer.distributed.process_id I
set -euo pipefail
usage() { sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "$0"; exit 2; }

fail() { echo "$1" >&2; exit 1; }

[ $# -ge 2 ] || usage
action=$1
shift
here=$(cd "$(dirname "$0")/../.." && pwd)
case $action in
    install)
        [ $# -eq 1 ] || fail "one wheel, not $#: $*"
        [ -f "$1" ] || fail "$1: no such wheel; make one with: make wheel"
        "$("$here/scripts/find_python.sh")" -m venv tomat-env
        tomat-env/bin/pip install -q -c "$here/constraints.txt" "$1[train,gcs]"
        tomat-env/bin/pip install -q -c "$here/constraints.txt" 'jax[cuda13]==0.11.2'
        ;;
    train)
        [ -f "$1" ] || fail "$1: no such configuration"
        [ -x tomat-env/bin/tomat ] || fail "no tomat-env in $PWD; make it with: training/launch/gpu.sh install WHEEL"
        # JAX takes three quarters of a GPU's memory by default; nothing else is to run there.
        XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92} exec tomat-env/bin/tomat train "$@"
        ;;
    *) usage ;;
esac
