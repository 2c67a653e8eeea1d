#!/usr/bin/env bash
# tttlib_bench: prints a rate; bad input ends in one clear line.
set -u
bench=$1/bench/tttlib_bench
. "$(dirname "$0")/expect.sh"

for mode in train infer; do
  expect_line 0 "images/s" "$bench" --model vit3_pico --mode $mode --batch 2 --image-size 16 --repeat 1 --threads 1
done
expect_error "ttt::tttlib_bench: --repeat: must be a whole number, from 1 to 1000000: 0" "$bench" --repeat 0
expect_error "ttt::tttlib_bench: --image-size: must be a whole number, from 1 to 8192: 4294967328" "$bench" --image-size 4294967328
expect_error "ttt::tttlib_bench: --mode: " "$bench" --mode sleep
expect_error 'ttt::create_model: unknown model "vit9"' "$bench" --model vit9
finish
