#!/usr/bin/env bash
# Seconds (of the processor, so that other work on the machine counts little) and peak memory that one file takes to
# compile, against the budgets of the project; exits with 1 over budget. The fastest of RUNS counts.
#   [CXX=g++] [RUNS=3] bench/compile_time.sh
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
compiler="${CXX:-g++}" runs="${RUNS:-3}"
if ! [ -x /usr/bin/time ]; then echo "GNU time is needed (Debian package: time)" >&2; exit 1; fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

flags=(-std=c++20 -O2 "-I$root/include" -isystem /usr/include/eigen3)
printf '#include <Eigen/Core>\n#include <fmt/format.h>\nint main() {}\n' > "$work/scale.cpp"
printf '#include <tttlib/tttlib.hpp>\nint main() {}\n' > "$work/umbrella.cpp"
# The README's program: its first block of C++ that has a main function.
awk '/^```cpp/ { inside = 1; block = ""; next }
     /^```/ { if (inside && block ~ /int main/) { printf "%s", block; exit } inside = 0 }
     inside { block = block $0 "\n" }' "$root/README.md" > "$work/readme.cpp"

over=0
# measure NAME MODE FILE SECONDS MEGABYTES: a budget of 0 is none.
measure() {
  local name="$1" mode="$2" file="$3" budget_s="$4" budget_mb="$5" run seconds kilobytes extra=()
  if [ "$mode" = compiled ]; then extra=(-DTTTLIB_COMPILED); fi
  local best_s=999999 best_kb=0
  for ((run = 0; run < runs; ++run)); do
    /usr/bin/time -f '%U %S %M' -o "$work/time" "$compiler" "${flags[@]}" "${extra[@]}" -c "$file" -o "$work/out.o"
    read -r seconds kilobytes < <(awk '{ print $1 + $2, $3 }' "$work/time")
    if awk "BEGIN { exit !($seconds < $best_s) }"; then best_s=$seconds best_kb=$kilobytes; fi
  done
  local verdict=ok
  if awk "BEGIN { exit !(($budget_s > 0 && $best_s > $budget_s) || ($budget_mb > 0 && $best_kb / 1024 > $budget_mb)) }"; then
    verdict=OVER over=1
  fi
  printf '%-34s %-12s %7.2f s %6d MB   %s\n' "$name" "$mode" "$best_s" $((best_kb / 1024)) \
    "$([ "$budget_s" = 0 ] && echo 'for scale' || echo "budget $budget_s s$([ "$budget_mb" = 0 ] || echo " and $budget_mb MB"): $verdict")"
}

echo "$("$compiler" --version | head -n 1), -O2, fastest of $runs"
measure 'Eigen/Core and fmt/format.h'      ''          "$work/scale.cpp"                    0   0
measure 'tttlib.hpp and an empty main'     compiled    "$work/umbrella.cpp"                 2.5 450
measure 'tttlib.hpp and an empty main'     header-only "$work/umbrella.cpp"                 2.5 450
measure "the README's program"             compiled    "$work/readme.cpp"                   4   0
measure "the README's program"             header-only "$work/readme.cpp"                   10  0
measure 'examples/train_classifier.cpp'    compiled    "$root/examples/train_classifier.cpp" 15 0
measure 'examples/train_classifier.cpp'    header-only "$root/examples/train_classifier.cpp" 40 0
exit "$over"
