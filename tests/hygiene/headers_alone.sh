#!/usr/bin/env bash
# Compiles every header by itself, warnings being errors (CUDA headers are for nvcc). All of them as a user of
# tttlib::compiled sees them, with the fewest headers behind; those that differ header-only, in that way as well.
#   headers_alone.sh strict|quick INCLUDE_DIR COMPILER [FLAG...]
# quick: a second compiler, clang, finds the standard library precompiled; who includes what of it was seen before.
set -euo pipefail
mode="$1" include_dir="$2" compiler="$3"; shift 3
cd "$include_dir"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

headers="$(find tttlib -name '*.hpp' | sort)"
differing="$(xargs grep -l TTTLIB_COMPILED <<< "$headers" | grep -v -e '-inl\.hpp$')"

check() {  # check DEFINITION HEADERS FLAG...
  local definition="$1" headers="$2"; shift 2
  local command=("$compiler" "$definition" -std=c++20 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -I. "$@")
  if [ "$mode" = quick ]; then
    xargs grep -ho '#include <[a-z_]*>' <<< "$headers" | sort -u > "$work/standard.hpp"
    "${command[@]}" -x c++-header "$work/standard.hpp" -o "$work/standard.pch"
    command+=(-include-pch "$work/standard.pch")
  fi
  # shellcheck disable=SC2016  # the inner shell expands these
  xargs -P "$(getconf _NPROCESSORS_ONLN)" -I{} bash -c '
    header="$1"; shift
    echo "#include \"$header\"" | "$@" -fsyntax-only -x c++ - || { echo "does not compile alone: $header"; exit 1; }
  ' _ {} "${command[@]}" <<< "$headers"
}

check -DTTTLIB_COMPILED "$headers" "$@"
check -UTTTLIB_COMPILED "$differing" "$@"
echo "$(wc -l <<< "$headers") headers compile alone with $compiler, $(wc -l <<< "$differing") of them header-only as well"
