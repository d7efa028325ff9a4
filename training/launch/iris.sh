#!/usr/bin/env bash
# Train on an Iris cluster, the scheduler of Marin, on which Levanter's own runs are started.
#
#   training/launch/iris.sh train CLUSTER TYPE WHEEL CONFIG [--field value ...]   TYPE: v6e-8, v6e-16, ... or H100x8
#   training/launch/iris.sh print CLUSTER TYPE WHEEL CONFIG [--field value ...]   what train would submit, not submitted
#   training/launch/iris.sh logs  CLUSTER JOB
#   training/launch/iris.sh stop  CLUSTER JOB
#
# Needs `iris` (pip install marin-iris) with access to the cluster. WHEEL is made by `make wheel`. Data and runs must be
# in a bucket (data.densities or data.path, and out: gs://...): hosts share no disk. The job is the wheel, its pins, the
# configuration and a script that installs and trains; nothing else of the working directory is sent. Iris starts a
# preempted job again, and the run goes on from its bucket. TOMAT_IRIS_OPTIONS has further options of `iris job run`, such
# as "--region us-east5 --priority batch".
set -euo pipefail
usage() { sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "$0"; exit 2; }
fail() { echo "$1" >&2; exit 1; }

[ $# -ge 3 ] || usage
action=$1 cluster=$2
shift 2
case $action in
    train | print)
        [ $# -ge 3 ] || usage
        type=$1 wheel=$2 config=$3
        shift 3
        [ -f "$wheel" ] || fail "$wheel: no such wheel; make one with: make wheel"
        [ -f "$config" ] || fail "$config: no such configuration"
        case $type in
            v[0-9]*) device=--tpu jax='jax[tpu]==0.11.2' ;;
            *x[0-9]*) device=--gpu jax='jax[cuda13]==0.11.2' ;;
            *) fail "unknown type $type: a TPU such as v6e-8, or a GPU and its number such as H100x8" ;;
        esac
        name=$(basename "${config%.*}" | tr -cs 'A-Za-z0-9\n' - | sed 's/^-*//; s/-*$//')
        root=$(cd "$(dirname "$0")/../.." && pwd)
        bundle=$(mktemp -d)
        trap 'rm -rf "$bundle"' EXIT
        cp -- "$wheel" "$root/constraints.txt" "$bundle/"
        cp -- "$config" "$bundle/run.yaml"
        # exec: the signal of a preemption must reach the training, which then saves its state.
        cat >"$bundle/train.sh" <<SCRIPT
set -euo pipefail
uv venv -q --python 3.12 tomat-env
uv pip install -q --python tomat-env -c constraints.txt "\$(ls ./tomat-*.whl)[train,gcs]" '$jax'
exec tomat-env/bin/tomat train run.yaml "\$@"
SCRIPT
        # shellcheck disable=SC2206 # words, as on a command line
        more=(${TOMAT_IRIS_OPTIONS:-})
        command=(iris --cluster "$cluster" job run --no-wait --no-sync --job-name "tomat-$name"
            "$device" "$type" --enable-extra-resources --cpu 32 --memory 128GB --disk 100GB --preemptible
            ${more[@]+"${more[@]}"} -- bash train.sh "$@")
        if [ "$action" = print ]; then
            printf '%q ' "${command[@]}"
            printf '\n\nin a folder with:\n'
            (cd "$bundle" && ls -1)
            printf '\ntrain.sh:\n'
            cat "$bundle/train.sh"
        else
            cd "$bundle"
            "${command[@]}"
        fi
        ;;
    logs) iris --cluster "$cluster" job logs "$1" ;;
    stop) iris --cluster "$cluster" job cancel "$1" ;;
    *) usage ;;
esac
