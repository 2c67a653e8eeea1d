#!/usr/bin/env bash
# Compiles every header by itself, warnings being errors (CUDA headers are for nvcc).
#   headers_alone.sh INCLUDE_DIR COMPILER [FLAG...]
set -euo pipefail
include_dir="$1"; shift
cd "$include_dir"

compile_alone() {
  local header="$1"; shift
  echo "#include \"$header\"" |
    "$@" -std=c++20 -Wall -Wextra -Wpedantic -Wconversion -Werror -I. -fsyntax-only -x c++ - ||
    { echo "does not compile alone: $header"; return 1; }
}
export -f compile_alone

headers="$(find tttlib -name '*.hpp' | sort)"
# Each word of "$@" is handed on as it is; the header's name comes first.
xargs -P "$(getconf _NPROCESSORS_ONLN)" -I{} bash -c 'compile_alone "$@"' _ {} "$@" <<< "$headers"
echo "$(wc -l <<< "$headers") headers compile alone with $1"
