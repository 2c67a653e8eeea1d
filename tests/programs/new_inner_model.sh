#!/usr/bin/env bash
# The program of docs/new_inner_model.md: short, and it does what the page says. new_inner_model.sh PROGRAM SOURCE
set -u
program=$1 source=$2
. "$(dirname "$0")/expect.sh"
lines=$(wc -l < "$source")
[ "$lines" -lt 40 ] || { echo "FAIL: $source has $lines lines, under 40 are promised"; failures=$((failures + 1)); }
cd "$work" || exit 1
expect 0 "written to runs/insights/tanh_glu: report.html" "$program" --quick --images 100
for file in runs/insights/tanh_glu/report.html runs/insights/tanh_glu/tanh_glu.json; do
  expect 0 "tanh_glu" cat "$file"
done
expect 0 "6 of 6 runs are taken from runs/insights/rows" "$program" --quick --images 100
expect 0 "--only ROW" "$program" --help
expect_line 1 'ttt::study: unknown row "relu". Hint: known names: glu, fc, tanh_glu' "$program" --only relu
finish
