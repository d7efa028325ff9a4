#!/bin/sh
# Fails if git tracks ignored files: outputs that were committed by mistake.
set -eu
cd "${1:-$(dirname "$0")/..}"
tracked=$(git ls-files --cached --ignored --exclude-per-directory=.gitignore)
[ -z "$tracked" ] || {
    printf 'git tracks what .gitignore names; take it out with: git rm --cached FILE\n%s\n' "$tracked" >&2
    exit 1
}
