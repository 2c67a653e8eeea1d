#!/usr/bin/env bash
# The benchmarks: print a rate; bad input ends in one clear line.
set -u
bench=$1/bench/tttlib_bench
. "$(dirname "$0")/expect.sh"

for mode in train infer; do
  expect_line 0 "images/s" "$bench" --model vit3_pico --mode $mode --batch 2 --image-size 16 --repeat 1 --threads 1
  expect 0 '"model": "ttt_heads"' "$bench" --model ttt_heads --mode $mode --batch 2 --image-size 64 --repeat 1 --threads 1 --json
done
tiny=(--model vit3_pico --batch 2 --image-size 16 --repeat 1 --threads 1)
expect 0 '"images_per_second": ' "$bench" "${tiny[@]}" --json
for key in model mode batch threads peak_rss_mib gflops peak_fraction; do
  grep -qF "\"$key\": " "$work/output" || { echo "FAIL: no $key"; failures=$((failures + 1)); }
done
expect 0 "inner_step" "$bench" "${tiny[@]}" --profile --trace "$work/trace.json"
for part in qkv proj mlp norm1 cpe head optimizer loss; do
  grep -qE " $part +[0-9.]+ +[0-9.]+" "$work/output" || { echo "FAIL: no time of $part"; failures=$((failures + 1)); }
done
if command -v python3 > /dev/null; then
  # Every event that begins ends, in the right order, and time never goes back.
  expect 0 "well nested" python3 - "$work/trace.json" << 'CHECK'
import json, sys
open_events, last = [], 0
events = json.load(open(sys.argv[1]))
for e in events:
    assert e["ts"] >= last, e
    last = e["ts"]
    if e["ph"] == "B": open_events.append(e["name"])
    else: assert open_events.pop() == e["name"], e
assert not open_events and {"forward", "backward", "inner_step"} <= {e["name"] for e in events}
print("well nested")
CHECK
fi
for path in fused closed nested; do
  expect 0 "\"path\": \"$path\"" "$bench" "${tiny[@]}" --json --path $path
done
for dtype in float32 bf16; do
  expect 0 "\"dtype\": \"$dtype\"" "$bench" "${tiny[@]}" --json --dtype $dtype
done
expect_error "ttt::tttlib_bench: --dtype: half not in {float32,bf16}" "$bench" --dtype half
expect_error "ttt::tttlib_bench: --repeat: must be a whole number, from 1 to 1000000: 0" "$bench" --repeat 0
expect_error "ttt::tttlib_bench: --image-size: must be a whole number, from 1 to 8192: 4294967328" "$bench" --image-size 4294967328
expect_error "ttt::tttlib_bench: --mode: " "$bench" --mode sleep
expect_error 'ttt::create_model: unknown model "vit9"' "$bench" --model vit9
expect_error "image 40, patch 16" "$bench" --model ttt_heads --image-size 40
expect 0 "whole matrix" "$1/bench/tttlib_scaling" --sides 16 32 --repeat 1 --threads 1 --out "$work/scaling/figure"
for ending in html md json; do
  [ -s "$work/scaling/figure.$ending" ] || { echo "FAIL: no figure.$ending"; failures=$((failures + 1)); }
done
expect 0 "Forward, in batches of 1 image, products of float32, 1 threads, " cat "$work/scaling/figure.md"
expect_error "image 40, patch 16" "$1/bench/tttlib_scaling" --sides 40 --repeat 1 --out "$work/scaling/bad"
if [ -x "$1/bench/tttlib_ops" ]; then  # only where Google Benchmark is
  expect 0 "ends AdamW" "$1/bench/tttlib_ops" --benchmark_min_time=0
fi
finish
