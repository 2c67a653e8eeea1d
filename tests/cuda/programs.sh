#!/usr/bin/env bash
# The programs with --device cuda:0, on the emulated GPU or a real one: they say where they compute, and a run goes on on
# either device.
#   programs.sh FOLDER [SUFFIX]    programs train_classifierSUFFIX … in the folder, or in its examples/ and bench/
set -u
. "$(dirname "${BASH_SOURCE[0]}")/../programs/expect.sh"
folder=$1 suffix=${2:-}
program() {
  local place
  for place in "$folder" "$folder/examples" "$folder/bench"; do
    if [ -f "$place/$1$suffix" ]; then echo "$place/$1$suffix"; return; fi
  done
}
gpu=(--device cuda:0)

# Four tokens per image.
tiny=(--model vit3_pico --image-size 16 --patch-size 8)
train=("$(program train_classifier)" "${tiny[@]}" --batch-size 8 --shapes-count 16 --threads 1 --epochs 1)
expect 0 "computed on cuda:0 (" "${train[@]}" "${gpu[@]}" --out "$work/run"
expect 0 "<dt>Device</dt><dd>cuda:0 (" cat "$work/run/report.html"
expect 0 "test accuracy" "${train[@]}" --out "$work/run" --eval
accuracy=$(grep "test accuracy" "$work/output")
expect 0 "$accuracy" "${train[@]}" "${gpu[@]}" --out "$work/run" --eval
expect 0 "test accuracy" "${train[@]}" --device cpu --out "$work/run" --resume
expect_error "ttt::cuda: no such GPU: cuda:63 of " "${train[@]}" --device cuda:63 --out "$work/other"

if [ -n "$suffix" ]; then  # the emulation has two
  expect 0 "computed on cuda:0 (emulated by the CPU), cuda:1 (emulated by the CPU), " "${train[@]}" --device cuda:0,cuda:1 --out "$work/two"
  expect_error "ttt::train: steps on several devices are not captured as graphs" "${train[@]}" --device cuda:0,cuda:1 --graph --out "$work/three"
fi
expect_error "ttt::make_communicator: two ranks on one GPU: cuda:0" "${train[@]}" --device cuda:0,cuda:0 --out "$work/other"

expect 0 "computed on cuda:0 (" "$(program visualize)" --weights "$work/run/best.safetensors" "${tiny[@]}" "${gpu[@]}" --out "$work/picture"
for file in report.html gradient_magnitude.png implicit_attention.png kernels.png; do
  [ -s "$work/picture/$file" ] || { echo "FAIL: no $file"; failures=$((failures + 1)); }
done

if [ -z "$suffix" ]; then  # the product that shows the peak takes an emulation too long
  bench=("$(program tttlib_bench)" --batch 2 --image-size 16 --repeat 1 --threads 1 "${gpu[@]}")
  expect_line 0 "launches a step: " "${bench[@]}" --model vit3_pico
  expect 0 '"peak_device_mib": ' "${bench[@]}" --model vit3_pico --mode infer --json
  expect 0 "inner_step" "${bench[@]}" --model vit3_pico --profile
fi

study=("$(program insight_1_loss)" --quick --images 50 --seeds 1 --only dot --cache "$work/rows" --out "$work/study")
expect 0 "1 runs, 1 at a time" "${study[@]}" "${gpu[@]}"
expect 0 "<dt>Device</dt><dd>cuda:0 (" cat "$work/study/report.html"
expect 0 "1 of 1 runs are taken from $work/rows" "${study[@]}" "${gpu[@]}"
expect 0 "1 runs, " "${study[@]}"  # on the CPU it is another run
expect_line 1 "ttt::study: cpu, cuda or cuda:N is needed: --device gpu" "${study[@]}" --device gpu
finish
