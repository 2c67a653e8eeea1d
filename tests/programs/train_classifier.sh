#!/usr/bin/env bash
# train_classifier: bad input ends in one clear line, Ctrl-C saves, --resume goes on, a full disk keeps the old files.
set -u
programs=$1
. "$(dirname "$0")/expect.sh"
train=$programs/train_classifier
small=(--shapes-count 128 --epochs 2 --batch-size 64 --threads 2)

expect_line 1 "ttt::load_cifar: no such folder: $work/missing" "$train" --data "$work/missing"
mkdir "$work/empty"
expect_line 1 "ttt::load_cifar:" "$train" --data "$work/empty"
expect_line 1 'ttt::create_model: unknown model "vit9"' "$train" --model vit9 --out "$work/out"
touch "$work/file"
expect 1 "ttt::train: cannot make the output folder: $work/file/out" "$train" "${small[@]}" --out "$work/file/out"
expect 1 "--epochs: " "$train" --epochs -1
expect 1 "ttt::load_safetensors_file" "$train" --shapes-count 64 --eval --weights "$work/missing.safetensors"

# A whole run, its evaluation, and a resume after the end.
expect 0 "test accuracy" "$train" "${small[@]}" --out "$work/run"
for file in report.html predictions.png metrics.jsonl best.safetensors last.safetensors training_state.safetensors; do
  [ -s "$work/run/$file" ] || { echo "FAIL: no $file"; failures=$((failures + 1)); }
done
expect 0 "test accuracy" "$train" "${small[@]}" --out "$work/run" --eval
expect 0 "test accuracy" "$train" "${small[@]}" --out "$work/run" --resume
expect 0 "written to $work/run: report.html" "$train" "${small[@]}" --out "$work/run" --resume
for text in "Test accuracy by class" "data:image/png;base64,iVBOR" "--out</span> <span>$work/run" "<dt>Seed</dt><dd>0</dd>" "2 epochs and "; do
  expect 0 "$text" cat "$work/run/report.html"
done
if command -v python3 > /dev/null && command -v chromium > /dev/null; then
  expect 0 "ok: $work/run/report.html" python3 "$(dirname "$0")/../browser/check_reports.py" "$work/run/report.html"
fi
expect 1 "belongs to another run" "$train" "${small[@]}" --lr 0.5 --out "$work/run" --resume

# Ctrl-C in the middle of an epoch.
"$train" --shapes-count 6400 --epochs 2 --out "$work/stopped" > "$work/stopped.log" 2>&1 &
pid=$!
for _ in $(seq 300); do [ -s "$work/stopped/training_state.safetensors" ] && break; sleep 0.1; done
sleep 1
kill -INT $pid
wait $pid
code=$?
if [ $code != 130 ] || ! grep -q "Saved. To go on: .* --resume" "$work/stopped.log"; then
  echo "FAIL: Ctrl-C ended with $code:"; cat "$work/stopped.log"; failures=$((failures + 1))
fi

# A disk that is full from the second save on: one clear line, and the old state is untouched.
cp "$work/run/training_state.safetensors" "$work/before"
(ulimit -f 1000; "$train" "${small[@]}" --out "$work/run" > "$work/full.log" 2>&1)
code=$?
if [ $code != 1 ] || ! grep -q "ttt::save_safetensors" "$work/full.log" || ! cmp -s "$work/before" "$work/run/training_state.safetensors"; then
  echo "FAIL: full disk ended with $code:"; cat "$work/full.log"; failures=$((failures + 1))
fi
finish
