#!/usr/bin/env bash
# Every program asked for a GPU that is not there: one line that says so, exit code 1.
#   device.sh BUILD TEXT [PROBE]    TEXT: what a program of this build says of cuda:0 without a GPU; PROBE: tells whether there is one
set -u
build=$1 text=$2 probe=${3:-} device=cuda:0
if [ -n "$probe" ] && "$probe" 2> /dev/null | grep -q "cuda_available: yes"; then device=cuda:63 text="ttt::cuda: no such GPU: cuda:63 of "; fi
. "$(dirname "$0")/expect.sh"
programs=(examples/tttlib_parity examples/train_classifier examples/visualize examples/insight_1_loss examples/insight_2_batches
          examples/insight_3_rate examples/insight_4_width examples/insight_5_depth examples/insight_6_convolution)
for name in tttlib_bench tttlib_scaling; do
  if [ -x "$build/bench/$name" ]; then programs+=("bench/$name"); fi
done
needed() { case "$1" in */visualize) echo "--weights missing" ;; */tttlib_parity) echo missing ;; esac }
for name in "${programs[@]}"; do
  read -r -a arguments <<< "$(needed "$name")"
  expect_error "$text" "$build/$name" --device $device ${arguments[@]+"${arguments[@]}"}
  expect_error "cuda:N" "$build/$name" --device gpu ${arguments[@]+"${arguments[@]}"}
  expect 0 "--device" "$build/$name" --help
done
finish
