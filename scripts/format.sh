#!/usr/bin/env bash
# Formats the lines that were changed since COMMIT (HEAD: what is not committed yet) with clang-format 14, and no others; --check only shows
# what it would change, and exits with 1 if there is something.
#   scripts/format.sh [--check] [COMMIT]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
format="$(command -v git-clang-format-14 || command -v git-clang-format)" || { echo "git-clang-format is not installed: apt-get install clang-format-14" >&2; exit 1; }
check=false
if [ "${1:-}" = --check ]; then check=true; shift; fi
case "${1:-}" in -*) echo "usage: scripts/format.sh [--check] [COMMIT]" >&2; exit 1 ;; esac
arguments=(--force --style file --extensions hpp,cpp,cu,cuh "${1:-HEAD}" -- include src tests examples bench)
if ! $check; then exec "$format" "${arguments[@]}"; fi
changes="$("$format" --diff "${arguments[@]}")" || [ -n "$changes" ]
case "$changes" in 'no modified files to format' | 'clang-format did not modify any files' | '') ;; *) printf '%s\n' "$changes"; exit 1 ;; esac
