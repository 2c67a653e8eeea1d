#!/usr/bin/env bash
# The six insight programs and the script that runs them all: bad input ends in one clear line, finished runs are found
# again, also after a stop in the middle, and the pages read well in a browser where there is one.
set -u
programs=$1/examples
. "$(dirname "$0")/expect.sh"
here=$(cd "$(dirname "$0")" && pwd)
one=$programs/insight_1_loss
small=(--quick --images 50 --seeds 1)

expect_line 1 "ttt::study: unknown option --speed. Hint: known options: --data" "$one" --speed 3
expect_line 1 'ttt::study: unknown row "huber". Hint: known names: dot, mse, rmse, mae, smooth_l1' "$one" --only huber
expect_line 1 "ttt::study: a number of at least 1 is needed: --seeds none" "$one" --seeds none
expect_line 1 "ttt::study: a value is missing after --out" "$one" --out
expect_line 1 "ttt::load_cifar: no such folder: $work/missing" "$one" --data "$work/missing"
touch "$work/file"
expect_line 1 "ttt::study: cannot make the output folder: $work/file/out" "$one" --out "$work/file/out"

# Stopped in the middle: what is finished stays.
"$one" --quick --images 2000 --jobs 1 --out "$work/stopped" --cache "$work/kept" > "$work/stopped.log" 2>&1 &
pid=$!
for _ in $(seq 1200); do compgen -G "$work/kept/*.json" > /dev/null && break; sleep 0.1; done
kill $pid
wait $pid 2> /dev/null
expect 0 "1 of 1 runs are taken from $work/kept" "$one" --quick --images 2000 --seeds 1 --only dot --out "$work/stopped" --cache "$work/kept"

# All six; rows that tables share are trained once: 31 rows, one seed.
expect 0 "All six: $work/all/index.html" env TTTLIB_PROGRAMS="$programs" bash "$here/../../scripts/insights.sh" "${small[@]}" --out "$work/all"
rows=$(find "$work/all/rows" -name '*.json' | wc -l)
[ "$rows" = 31 ] || { echo "FAIL: $rows runs instead of 31"; failures=$((failures + 1)); }
pages=()
for n in 1 2 3 4 5 6; do
  for file in report.html insight_$n.json; do
    [ -s "$work/all/insight_$n/$file" ] || { echo "FAIL: no $file of insight $n"; failures=$((failures + 1)); }
  done
  pages+=("$work/all/insight_$n/report.html")
done
expect 0 "5 of 5 runs are taken from $work/all/rows" "$one" "${small[@]}" --out "$work/again" --cache "$work/all/rows"
expect 0 "no: exactly 0" cat "$work/all/insight_1/insight_1.json"
if command -v python3 > /dev/null && command -v chromium > /dev/null; then
  expect 0 "ok: $work/all/index.html" python3 "$here/../browser/check_reports.py" "${pages[@]}" "$work/all/index.html"
fi
finish
