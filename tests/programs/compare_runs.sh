#!/usr/bin/env bash
# compare_runs: mean and deviation of runs, and one clear line for what is no run.
set -u
compare=$1/examples/compare_runs
. "$(dirname "$0")/expect.sh"

run() {  # run NAME TOP1...
  mkdir "$work/$1"
  local name=$1 epoch=0 top1
  shift
  for top1 in "$@"; do
    epoch=$((epoch + 1))
    echo "{\"epoch\":$epoch,\"train_loss\":1.5,\"test_loss\":1.25,\"test_top1\":$top1,\"images_per_second\":200,\"lr\":0.001}"
  done > "$work/$name/metrics.jsonl"
}
run a 0.25 0.50
run b 0.25 0.60
page=$work/page.html
expect 0 'test top-1 after the last epoch: mean 55.00 %, deviation 7.07, 2 runs' "$compare" "$work/a" "$work/b" --out "$page"
expect 0 'mean 55.00 %' cat "$page"
expect 0 'mean 50.00 %, 1 run' "$compare" "$work/a" --out "$page"
expect_error "ttt::compare_runs: cannot open $work/c/metrics.jsonl" "$compare" "$work/a" "$work/c" --out "$page"
run empty
expect_error "ttt::compare_runs: no epochs in $work/empty/metrics.jsonl" "$compare" "$work/empty" --out "$page"
mkdir "$work/text"; echo 'not json' > "$work/text/metrics.jsonl"
expect_error "ttt::compare_runs: line 1 is none of metrics: $work/text/metrics.jsonl" "$compare" "$work/text" --out "$page"
expect_error "ttt::compare_runs: one run twice: $work/a, $work/b/../a" "$compare" "$work/a" "$work/b/../a" --out "$page"
run longer 0.25 0.50 0.75
expect 0 'deviation 17.68, 2 runs of different lengths' "$compare" "$work/a" "$work/longer" --out "$page"
expect_error 'ttt::compare_runs: runs is required' "$compare"
finish
