#!/usr/bin/env bash
# visualize: pictures and a page for a trained model, on images of a data set and pictures of one's own; bad input ends in one line.
set -u
train=$1/examples/train_classifier visualize=$1/examples/visualize
. "$(dirname "$0")/expect.sh"
here=$(cd "$(dirname "$0")" && pwd)
small=(--model vit3_pico --image-size 24)
"$train" "${small[@]}" --shapes-count 64 --batch-size 16 --epochs 1 --out "$work/run" > "$work/train.log" || cat "$work/train.log"
weights=$work/run/best.safetensors

expect 0 "written to $work/own: report.html" "$visualize" --weights "$weights" "${small[@]}" --image "$work/run/predictions.png" --out "$work/own"
expect 0 "; the label is " "$visualize" --weights "$weights" "${small[@]}" --index 2 --token 0 5 --out "$work/set"
for run in own set; do
  for file in report.html image.png gradient_magnitude.png implicit_attention.png kernels.png; do
    [ -s "$work/$run/$file" ] || { echo "FAIL: no $file"; failures=$((failures + 1)); }
  done
done
cmp -s "$work/own/gradient_magnitude.png" "$work/set/gradient_magnitude.png" && { echo "FAIL: two images have the same map"; failures=$((failures + 1)); }
expect 0 "row 0, column 5" cat "$work/set/report.html"
if command -v python3 > /dev/null && command -v chromium > /dev/null; then
  expect 0 "ok: $work/set/report.html" python3 "$here/../browser/check_reports.py" "$work/own/report.html" "$work/set/report.html"
fi

expect_error "ttt::visualize: --weights is required" "$visualize"
expect_error "the model trains nothing inside: --model deit_nano" "$visualize" --weights "$weights" --model deit_nano
expect_error 'ttt::create_model: unknown model "vit9"' "$visualize" --weights "$weights" --model vit9
expect_error "$work/missing.safetensors" "$visualize" --weights "$work/missing.safetensors" "${small[@]}"
expect_error "ttt::load_state_dict: " "$visualize" --weights "$weights" --model vit3_nano
expect_error "no such token: --token 6 0, grid 6 x 6" "$visualize" --weights "$weights" "${small[@]}" --token 6 0
expect_error "ttt::read_image: not a PNG or JPEG picture: $weights" "$visualize" --weights "$weights" "${small[@]}" --image "$weights"
touch "$work/file"
expect_error "cannot make the output folder: $work/file/out" "$visualize" --weights "$weights" "${small[@]}" --out "$work/file/out"
finish
