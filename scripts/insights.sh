#!/usr/bin/env bash
# Runs the six insight programs one after the other and writes a page that links to their reports. Options go to every
# program; runs that several of them need are made once. Stopped and started again, it goes on where it was.
#   scripts/insights.sh --quick                             a look at everything, a few minutes
#   scripts/insights.sh --data cifar-10-batches-bin         the study; every program says first how long it will take
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

out="$root/runs/insights" cache=
arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --out) out="${2:?--out needs a folder}"; shift 2 ;;
    --out=*) out="${1#*=}"; shift ;;
    --cache) cache="${2:?--cache needs a folder}"; shift 2 ;;
    --cache=*) cache="${1#*=}"; shift ;;
    *) arguments+=("$1"); shift ;;
  esac
done
programs="${TTTLIB_PROGRAMS:-}"  # a folder with the programs, where they are built already
names=(insight_1_loss insight_2_batches insight_3_rate insight_4_width insight_5_depth insight_6_convolution)

if [ -z "$programs" ]; then
  "$root/scripts/setup.sh" demo
  echo "Building (build/release)"
  mkdir -p "$root/build"
  log="$root/build/insights.log"
  if ! (cd "$root" && cmake --preset release && cmake --build --preset release --target "${names[@]}" tttlib_report_index) > "$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "The build failed; all of its output is in $log" >&2
    exit 1
  fi
  programs="$root/build/release/examples"
fi

reports=()
for name in "${names[@]}"; do
  insight="${name%_*}"  # insight_1
  echo
  "$programs/$name" ${arguments[@]+"${arguments[@]}"} --out "$out/$insight" --cache "${cache:-$out/rows}"
  case " ${arguments[*]-} " in *" --help "* | *" -h "*) exit 0 ;; esac
  reports+=("$out/$insight/report.html")
done
"$programs/tttlib_report_index" "$out/index.html" "Six insights into inner training" \
  "What the ViT³ paper found out about training inside a layer, as six programs: the mechanism of each finding, exactly, and its experiment at a size that two cores can run." \
  "${reports[@]}"
echo
echo "All six: $out/index.html"
