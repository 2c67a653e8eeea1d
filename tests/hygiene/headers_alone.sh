#!/usr/bin/env bash
# Compiles every header by itself, warnings being errors (CUDA headers are for nvcc). All of them as a user of
# tttlib::compiled sees them, with the fewest headers behind; those that differ header-only, in that way as well.
#   headers_alone.sh INCLUDE_DIR COMPILER [FLAG...]
set -euo pipefail
include_dir="$1"; shift
cd "$include_dir"

compile_alone() {
  local definition="${1% *}" header="${1#* }"; shift
  echo "#include \"$header\"" |
    "$@" "$definition" -std=c++20 -Wall -Wextra -Wpedantic -Wconversion -Werror -I. -fsyntax-only -x c++ - ||
    { echo "does not compile alone: $header ($definition)"; return 1; }
}
export -f compile_alone

headers="$(find tttlib -name '*.hpp' | sort)"
differing="$(xargs grep -l TTTLIB_COMPILED <<< "$headers" | grep -v -e '-inl\.hpp$')"
# shellcheck disable=SC2086  # one word a header
jobs="$(printf -- '-DTTTLIB_COMPILED %s\n' $headers; printf -- '-UTTTLIB_COMPILED %s\n' $differing)"
xargs -P "$(getconf _NPROCESSORS_ONLN)" -I{} bash -c 'compile_alone "$@"' _ {} "$@" <<< "$jobs"
echo "$(wc -l <<< "$headers") headers compile alone with $1, $(wc -l <<< "$differing") of them header-only as well"
