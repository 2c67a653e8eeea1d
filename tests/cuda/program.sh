#!/usr/bin/env bash
# Runs PROGRAM: where it says that a GPU is available it must succeed; elsewhere it must work until it asks for one, then
# end with exit code 1 and one line on stderr that holds TEXT.
#   program.sh PROGRAM TEXT
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../programs/expect.sh"
program=$1 text=$2
"$program" > "$work/said" 2> /dev/null || true
if grep -q "cuda_available: yes" "$work/said"; then
  expect 0 "difference between the GPU and the CPU" "$program"
else
  expect_error "$text" "$program"
  grep -q "cuda_available: no" "$work/said" || { echo "FAIL: the program did not start"; failures=1; }
fi
finish
