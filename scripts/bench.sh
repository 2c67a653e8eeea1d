#!/usr/bin/env bash
# Speed beside PyTorch, both in one run: installs what is missing, builds, measures, writes bench/results/cpu.md and .json.
#   scripts/bench.sh                      everything, about a quarter of an hour on an idle machine
#   scripts/bench.sh --only vit3_nano     one model; other options go to bench/compare.py
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/scripts/setup.sh" bench
log="$root/build/bench.log"
mkdir -p "$root/build"
echo "Building (build/release)"
if ! (cd "$root" && cmake --preset release && cmake --build --preset release --target tttlib_bench) > "$log" 2>&1; then
  tail -n 40 "$log" >&2
  echo "The build failed; all of its output is in $log" >&2
  exit 1
fi
python=python3
"$python" -c 'import torch' 2> /dev/null || python=/usr/bin/python3  # Debian's package belongs to the system's Python
exec "$python" "$root/bench/compare.py" --bench "$root/build/release/bench/tttlib_bench" --out "$root/bench/results/cpu" "$@"
