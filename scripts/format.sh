#!/usr/bin/env bash
# Formats every source file with clang-format, or with --check only tells which ones differ.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
format="$(command -v clang-format-14 || command -v clang-format)" || { echo "clang-format is not installed" >&2; exit 1; }
mode=(-i)
case "${1:-}" in
  '') ;;
  --check) mode=(--dry-run -Werror) ;;
  *) echo "usage: scripts/format.sh [--check]" >&2; exit 1 ;;
esac
find include src tests examples bench -name '*.[ch]pp' -o -name '*.cu' -o -name '*.cuh' | sort | xargs "$format" "${mode[@]}"
