#!/usr/bin/env bash
# train_classifier: bad input ends in one clear line, Ctrl-C saves, --resume goes on bit for bit, a full disk keeps the
# old files, and a run is not overwritten by accident.
set -u
train=$1/examples/train_classifier edit=$3
. "$(dirname "$0")/expect.sh"
# Four tokens per image: fast enough to run often. Weights take 1.1 MB, a training state 3.2 MB.
tiny=(--model vit3_pico --image-size 16 --patch-size 8 --batch-size 8 --threads 1)
small=("${tiny[@]}" --shapes-count 128 --epochs 2 --threads 2)

expect_error "ttt::load_cifar: no such folder: $work/missing" "$train" --data "$work/missing"
mkdir "$work/empty"
expect_error "ttt::load_cifar:" "$train" --data "$work/empty"
expect_error 'ttt::create_model: unknown model "vit9"' "$train" --model vit9 --out "$work/out"
touch "$work/file"
expect_error "ttt::train: cannot make the output folder: $work/file/out" "$train" "${small[@]}" --out "$work/file/out"
expect_error "ttt::load_safetensors_file" "$train" --shapes-count 64 --eval --weights "$work/missing.safetensors"
expect_error "ttt::train: nothing to resume in $work/nothing: " "$train" "${tiny[@]}" --shapes-count 16 --out "$work/nothing" --resume
[ ! -e "$work/nothing" ] || { echo "FAIL: --resume made a folder"; failures=$((failures + 1)); }

# Values that no option can take, or would wrap.
whole="must be a whole number"
expect_error "ttt::train_classifier: --epochs: $whole, from 1 to 1000000: -1. Hint: --help" "$train" --epochs -1
expect_error "--epochs: $whole, from 1 to 1000000: 0" "$train" --epochs 0
expect_error "--epochs: $whole, from 1 to 1000000: abc" "$train" --epochs abc
expect_error "--epochs: $whole, from 1 to 1000000: 1.5" "$train" --epochs 1.5
expect_error "--epochs: $whole, from 1 to 1000000: 4294967297" "$train" --epochs 4294967297
expect_error "--threads: $whole, from 1 to 1024: 0" "$train" --threads 0
expect_error "--lr: must be a number above 0: inf" "$train" --lr inf
expect_error "--lr: must be a number above 0: nan" "$train" --lr nan
expect_error "--weight-decay: must be a number, 0 or more: nan" "$train" --weight-decay nan
expect_error "--label-smoothing: must be a number, from 0 to 1: 2" "$train" --label-smoothing 2
expect_error "--drop-path: must be a number, from 0 to 1: 1.5" "$train" --drop-path 1.5
expect_error "--seed: $whole, 0 or more: -1" "$train" --seed -1
expect_error "--shapes-count: $whole, from 1 to 100000000: 10000000000" "$train" --shapes-count 10000000000
expect_error "--patch-size: $whole, from 1 to 8192: 0" "$train" --patch-size 0
for size in 4294967328 0 -32 32x 32x32x3 big; do
  expect_error "--image-size: must be a side, or height x width as in 192x256, from 1 to 8192: $size" "$train" --summary --image-size $size
done
expect_error "the built-in shapes are square: --image-size 16 x 32" "$train" --image-size 16x32 --out "$work/out"
expect_error "not expected: " "$train" --epoch 3
expect_error "ttt::train_classifier: --epochs: " "$train" --epochs
expect_error "ttt::train_classifier: --path: quick not in {fused,closed,nested}" "$train" --path quick

# The table of modules, at any size and patch.
expect 0 "[1, 8, 12, 96]" "$train" --summary --image-size 32x48
expect 0 "[1, 4, 4, 96]" "$train" --summary --patch-size 8
expect_error "--patch-size: " "$train" --summary --patch-size 5x
expect_error "image 32, patch 5" "$train" --summary --patch-size 5
expect_error "ttt::train_classifier: cannot write to the standard output" bash -c '"$0" --summary > /dev/full' "$train"
expect_error "ttt::train_classifier: cannot write to the standard output" bash -c '"$0" --help > /dev/full' "$train"

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

# Two ranks share the batches, and go on where one rank stopped.
expect 0 "computed on cpu, cpu, " "$train" "${small[@]}" --device cpu,cpu --out "$work/ranks"
expect 0 "<dt>Device</dt><dd>cpu, cpu</dd>" cat "$work/ranks/report.html"
expect 0 "test accuracy" "$train" "${small[@]}" --out "$work/ranks" --resume
expect_error "ttt::DataLoader: batches of 8 images cannot be shared equally by 3 ranks" "$train" "${small[@]}" --device cpu,cpu,cpu --out "$work/three"
for devices in cpu, ,cpu cpu,,cpu cpu,gpu; do
  expect_error "--device: must be cpu, cuda or cuda:N, or several with commas between: $devices" "$train" "${small[@]}" --device $devices
done

# What a resumed run must have in common with the first; numbers count in full.
expect_error "belongs to another run: it has lr 0.001; this run has lr 0.5. Hint: " "$train" "${small[@]}" --lr 0.5 --out "$work/run" --resume
expect_error "it has lr 0.001; this run has lr 0.0010000001" "$train" "${small[@]}" --lr 0.0010000001 --out "$work/run" --resume
expect_error "this run has drop path 0.25" "$train" "${small[@]}" --drop-path 0.25 --out "$work/run" --resume
expect_error "it has path fused; this run has path nested" "$train" "${small[@]}" --path nested --out "$work/run" --resume
expect_error "it has nothing else; this run has dtype bf16" "$train" "${small[@]}" --dtype bf16 --out "$work/run" --resume
expect 0 "test accuracy" "$train" "${small[@]}" --out "$work/run" --eval --dtype bf16

expect 0 "not read" "$train" "${small[@]}" --out "$work/run" --resume --weights "$work/missing.safetensors"
expect_error "--classes is for --summary" "$train" "${small[@]}" --out "$work/run" --classes 5
expect_error "--seed: is too large: 18446744073709551615" "$train" --seed 18446744073709551615

# Wrong weights are named, three of each kind.
expect_error "unexpected (patch_embed.proj.weight, patch_embed.proj.bias, blocks.0.cpe.weight, …)" \
  "$train" --model linear_pixels --shapes-count 16 --eval --weights "$work/run/best.safetensors"

# Starting again in a folder that holds a run: refused, nothing is touched.
keep=(training_state.safetensors best.safetensors last.safetensors metrics.jsonl report.html)
kept() { for file in "${keep[@]}"; do same "$work/before/$file" "$1/$file"; done; }
cp -r "$work/run" "$work/before"
expect_error "ttt::train: the output folder holds a run: $work/run. Hint: resume goes on with it, overwrite starts again" "$train" "${small[@]}" --out "$work/run"
kept "$work/run"

# A full disk at the start: one clear line, and the old run is whole even if it was to be overwritten.
expect_error "ttt::save_safetensors: cannot write: $work/run/write_check.safetensors: File too large" \
  bash -c 'ulimit -f 1000; "$@"' - "$train" "${small[@]}" --out "$work/run" --overwrite
kept "$work/run"
rm -r "$work/before"
expect 0 "test accuracy" "$train" "${small[@]}" --out "$work/run" --overwrite
[ ! -e "$work/run/write_check.safetensors" ] || { echo "FAIL: the check left its file"; failures=$((failures + 1)); }

# Ctrl-C in the middle of an epoch. The command that the program prints goes on, and the end has the same bits as a run
# that was never stopped. The name of the folder needs quotes in a shell.
long=("${tiny[@]}" --epochs 2 --shapes-count 6400)
"$train" "${long[@]}" --out "$work/whole" > "$work/whole.log" 2>&1 || { cat "$work/whole.log"; failures=$((failures + 1)); }
"$train" "${long[@]}" --out "$work/a stopped run" --overwrite > "$work/stopped.log" 2>&1 &
pid=$!
for _ in $(seq 300); do [ -s "$work/a stopped run/training_state.safetensors" ] && break; sleep 0.1; done
sleep 0.5
kill -INT $pid
wait $pid
code=$?
if [ $code != 130 ] || ! grep -q "Saved. To go on: .* --resume" "$work/stopped.log"; then
  echo "FAIL: Ctrl-C ended with $code:"; cat "$work/stopped.log"; failures=$((failures + 1))
fi
if [ -e "$work/a stopped run/metrics.jsonl" ] && [ "$(wc -l < "$work/a stopped run/metrics.jsonl")" != 1 ]; then
  echo "FAIL: the run was over before Ctrl-C"; failures=$((failures + 1))
fi
cp "$work/a stopped run/training_state.safetensors" "$work/middle.safetensors"
expect 0 "test accuracy" bash -c "$(sed -n 's/^Saved. To go on: //p' "$work/stopped.log")"
same "$work/whole/last.safetensors" "$work/a stopped run/last.safetensors"
same "$work/whole/best.safetensors" "$work/a stopped run/best.safetensors"

# A disk that fills up in the middle of a run, first so that nothing can be saved, then so that weights can and the
# state, three times as large, cannot: what was saved before stays, and a resume ends with the bits of the whole run.
mkdir "$work/half"
cp "$work/middle.safetensors" "$work/half/training_state.safetensors"
cp "$work/whole/last.safetensors" "$work/half"
expect_error "ttt::save_safetensors: cannot write: $work/half/last.safetensors: File too large" \
  bash -c 'ulimit -f 500; "$@"' - "$train" "${long[@]}" --out "$work/half" --resume
same "$work/half/training_state.safetensors" "$work/middle.safetensors"
same "$work/half/last.safetensors" "$work/whole/last.safetensors"
expect_error "ttt::save_safetensors: cannot write: $work/half/training_state.safetensors: File too large" \
  bash -c 'ulimit -f 2000; "$@"' - "$train" "${long[@]}" --out "$work/half" --resume
same "$work/half/training_state.safetensors" "$work/middle.safetensors"
expect 0 "test accuracy" "$train" "${long[@]}" --out "$work/half" --resume
same "$work/half/last.safetensors" "$work/whole/last.safetensors"

# Images as files: one picture under some labels, in each file of the data set.
make_cifar() {  # FOLDER LABEL…
  local folder=$1; shift
  mkdir -p "$folder"
  printf 'class %s\n' 0 1 2 3 4 5 6 7 8 9 > "$folder/batches.meta.txt"
  for name in data_batch_1 data_batch_2 data_batch_3 data_batch_4 data_batch_5 test_batch; do
    for label; do printf "\\x0$label"; head -c 3072 "$train" ; done > "$folder/$name.bin"
  done
}
files=(--model vit3_pico --patch-size 8 --batch-size 4 --threads 1 --epochs 2)
make_cifar "$work/images" 0 1 2
expect 0 "15 training and 3 test images of 32 x 32" "$train" "${files[@]}" --data "$work/images" --out "$work/files"
# Some of them, as many of each class; with drop path.
make_cifar "$work/ten" 9 8 7 6 5 4 3 2 1 0
some=("$train" "${files[@]}" --data "$work/ten" --train-count 20 --drop-path 0.25 --out "$work/some")
expect 0 "20 training and 10 test images of 32 x 32" "${some[@]}"
expect 0 "test accuracy" "${some[@]}" --resume
expect_error "it has images 20 of 32 x 32" "${some[@]}" --train-count 30 --resume
three=("$train" "${files[@]}" --data "$work/images" --out "$work/out")
expect_error "needs as many images of each class: 15 images, 10 classes" "${three[@]}" --train-count 15
expect_error "a class has too few images: 1 of each of 10 classes asked for, 15 images in all" "${three[@]}" --train-count 10
expect_error "--train-count is for images in files. Hint: --shapes-count" "$train" --train-count 10 --out "$work/out"
expect_error "the images have a size of their own: $work/images 32 x 32, --image-size 16 x 16" "$train" "${files[@]}" --data "$work/images" --image-size 16 --out "$work/out"
# The same data by another path is the same run; other data under the same path is another.
cp -r "$work/images" "$work/moved"
expect 0 "test accuracy" "$train" "${files[@]}" --data "$work/moved" --out "$work/files" --resume
printf '\x05' | dd of="$work/images/data_batch_1.bin" bs=1 seek=100 conv=notrunc 2> /dev/null
expect_error "belongs to another run: it has data " "$train" "${files[@]}" --data "$work/images" --out "$work/files" --resume
# A label over 9, a file that is cut short, one that is missing.
printf '\x0a' | dd of="$work/images/data_batch_2.bin" bs=1 seek=3073 conv=notrunc 2> /dev/null
expect_error "ttt::load_cifar: label out of range: $work/images/data_batch_2.bin, record 1, label 10; must be 0 to 9" "$train" --data "$work/images"
truncate -s 5000 "$work/images/data_batch_2.bin"
expect_error "ttt::load_cifar: wrong file size: $work/images/data_batch_2.bin, 5000 bytes" "$train" --data "$work/images"
rm "$work/images/data_batch_2.bin"
expect_error "data_batch_2.bin" "$train" --data "$work/images"

# A loss that is no number: the first bad op is named, in one line.
"$edit" "$work/whole/last.safetensors" "$work/nan.safetensors" set patch_embed.proj.weight 5 nan
expect_error "ttt::evaluate: the loss is not finite: nan over 2000 images" "$train" "${tiny[@]}" --shapes-count 64 --eval --weights "$work/nan.safetensors"
expect_error "ttt::conv2d: result" "$train" "${tiny[@]}" --shapes-count 64 --out "$work/nan" --weights "$work/nan.safetensors"
expect_error "in Vit3.patch_embed.proj" "$train" "${tiny[@]}" --shapes-count 64 --out "$work/nan" --weights "$work/nan.safetensors" --overwrite

# States that are damaged or not whole.
averaged=("${tiny[@]}" --epochs 1 --shapes-count 64 --ema 0.9)
expect 0 "test accuracy" "$train" "${averaged[@]}" --out "$work/averaged"
state=$work/averaged/training_state.safetensors
cp "$state" "$work/good.safetensors"
resume=("$train" "${averaged[@]}" --out "$work/averaged" --resume)
"$edit" "$work/good.safetensors" "$state" drop optimizer.mean:head.weight
expect_error "ttt::load_state_dict: state does not fit the optimiser: 1 missing (mean:head.weight)" "${resume[@]}"
"$edit" "$work/good.safetensors" "$state" drop optimizer.steps
expect_error "state does not fit the optimiser: 1 missing (steps)" "${resume[@]}"
"$edit" "$work/good.safetensors" "$state" drop ema.
expect_error "ttt::load_state_dict: state does not fit the averaged weights: " "${resume[@]}"
"$edit" "$work/good.safetensors" "$state" drop model.norm.
expect_error "ttt::load_state_dict: state does not fit the module: 2 missing (norm.weight, norm.bias)" "${resume[@]}"
"$edit" "$work/good.safetensors" "$state" metadata run "ema 0.9" "ema 0"
expect_error "belongs to another run: it has ema 0; this run has ema 0.9" "${resume[@]}"
"$edit" "$work/good.safetensors" "$state" metadata state '"step"' '"stop"'
expect_error "ttt::resume: damaged training state: $state" "${resume[@]}"
cp "$work/averaged/last.safetensors" "$state"
expect_error "ttt::resume: not a training state: $state" "${resume[@]}"
head -c 100000 "$work/good.safetensors" > "$state"
expect_error "ttt::load_safetensors_file: " "${resume[@]}"
head -c 100000 "$train" > "$state"
expect_error "ttt::load_safetensors_file: " "${resume[@]}"
finish
