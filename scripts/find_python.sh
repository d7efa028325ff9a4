#!/bin/sh
# Prints a Python of version 3.12 or newer, or what to install.
is_fit() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}
for name in "${PYTHON:-}" python3.14 python3.13 python3.12 python3 python; do
    if [ -n "$name" ] && is_fit "$name"; then
        command -v "$name"
        exit 0
    fi
done
for path in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python; do
    if [ -x "$path" ] && is_fit "$path"; then
        echo "$path"
        exit 0
    fi
done
if command -v uv >/dev/null 2>&1; then
    path=$(uv python find '>=3.12' 2>/dev/null)
    if [ -n "$path" ] && is_fit "$path"; then
        echo "$path"
        exit 0
    fi
fi
cat >&2 <<'EOF'
tomat needs Python 3.12 or newer with the venv module, and none was found.
Install one of these, then run make again:
  Debian, Ubuntu:  apt-get install python3.12 python3.12-venv
  macOS:           brew install python@3.13
  any system:      pyenv install 3.13, or uv python install 3.13
or say where it is:  make PYTHON=/path/to/python3.12 ...
EOF
exit 1
