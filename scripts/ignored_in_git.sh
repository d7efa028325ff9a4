#!/bin/sh
# Fails where git tracks what .gitignore names: outputs of a run that came in by mistake, and that a fresh clone would take for its own.
set -eu
cd "${1:-$(dirname "$0")/..}"
tracked=$(git ls-files --cached --ignored --exclude-per-directory=.gitignore)
[ -z "$tracked" ] || {
    printf 'git tracks what .gitignore names; take it out with: git rm --cached FILE\n%s\n' "$tracked" >&2
    exit 1
}
