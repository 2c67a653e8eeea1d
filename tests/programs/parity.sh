#!/usr/bin/env bash
# tttlib_parity on the golden cases of this project, and on those of TTTLIB_GOLDEN where it is set.
set -u
programs=$1 golden=$2
. "$(dirname "$0")/expect.sh"
parity=$programs/tttlib_parity

for dtype in double float; do
  for path in closed nested; do
    expect 0 "8 passed, 0 failed" "$parity" --dtype $dtype --path $path "$golden"
  done
done
expect 1 "0 passed, 8 failed" "$parity" --perturb "$golden"

mkdir "$work/empty"
expect 1 "no case ran" "$parity" "$work/empty"
expect 1 "ttt::parity: no such file or folder: $work/missing" "$parity" "$work/missing"
expect 105 "fused not in {auto,nested,closed}" "$parity" --path fused "$golden"
head -c 1000 "$golden/optim_and_loss.safetensors" > "$work/cut.safetensors"
expect 1 "FAIL  cut" "$parity" "$work/cut.safetensors"

if [ -n "${TTTLIB_GOLDEN:-}" ]; then
  expect 0 " 0 failed" "$parity" "$TTTLIB_GOLDEN"
  ran=$(grep -c '^ok' "$work/output")
  [ "$ran" -ge 33 ] || { echo "FAIL: only $ran cases of TTTLIB_GOLDEN ran"; failures=$((failures + 1)); }
  expect 0 " 0 failed" "$parity" --path nested "$TTTLIB_GOLDEN"
  expect 0 " 0 failed" "$parity" --dtype float "$TTTLIB_GOLDEN"
  expect 1 "0 passed, $ran failed" "$parity" --perturb "$TTTLIB_GOLDEN"
else
  echo "skipped: TTTLIB_GOLDEN is not set, so only the cases in tests/golden ran"
fi
finish
