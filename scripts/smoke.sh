#!/bin/sh
# Installs the wheel $1 into a clean environment, away from the sources, and uses it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
wheel=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$("$root/scripts/find_python.sh")" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check -c "$root/constraints.txt" "$wheel"
cd "$folder"
venv/bin/tomat-tokenize "$root/tests/data/rho_gga" --out rows --limit 3 --quiet
venv/bin/tomat verify rows --source "$root/tests/data/rho_gga"
venv/bin/python -c 'import tomat; print("tomat", tomat.__version__, "works from", tomat.__file__)'
