#!/usr/bin/env bash
# How fast a program trains that was compiled without optimisation and links tttlib::compiled: tttlib_bench at -O0 and at -O3,
# in turn, medians of ROUNDS; exits with 1 if -O0 reaches less than 90 % of -O3. Needs a release build (build/release).
# PREFIX is put before every measurement: a command that keeps the machine quiet, say.
#   [CXX=g++] [ROUNDS=5] [PREFIX=] bench/unoptimised.sh [options of tttlib_bench; default: --model vit3_nano --mode train --batch 64]
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
compiler="${CXX:-g++}" rounds="${ROUNDS:-5}" library="$root/build/release/libtttlib_compiled.a"
if [ $# = 0 ]; then set -- --model vit3_nano --mode train --batch 64; fi
if ! [ -e "$library" ]; then echo "No $library: cmake --preset release && cmake --build --preset release" >&2; exit 1; fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

for level in O0 O3; do
  "$compiler" -std=c++20 "-$level" -march=native -DTTTLIB_COMPILED "-I$root/include" "-I$root/examples" "$root/bench/tttlib_bench.cpp" \
    "$library" -lfmt -pthread -o "$work/$level"
done

# rate LEVEL THREADS: images per second; one thread stays on one core.
rate() {
  local before=()
  if [ -n "${PREFIX:-}" ]; then before+=("$PREFIX"); fi
  if [ "$2" = 1 ] && command -v taskset > /dev/null; then before+=(taskset -c 0); fi
  ${before[@]+"${before[@]}"} "$work/$1" "${@:3}" --threads "$2" --repeat 5 --json | sed -E 's/.*"images_per_second": ([0-9.]+).*/\1/'
}
median() { sort -g "$1" | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }

slow=0
for threads in 1 2; do
  for ((round = 0; round < rounds; ++round)); do
    for level in O0 O3; do rate "$level" "$threads" "$@" >> "$work/$level.$threads"; done
  done
  awk -v plain="$(median "$work/O0.$threads")" -v best="$(median "$work/O3.$threads")" -v threads="$threads" 'BEGIN {
    printf "%d threads: -O0 %.1f images/s, -O3 %.1f images/s, %.0f %%\n", threads, plain, best, 100 * plain / best
    exit plain < 0.9 * best }' || slow=1
done
exit $slow
