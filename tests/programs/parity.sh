#!/usr/bin/env bash
# tttlib_parity on the golden cases of this project, and on those of TTTLIB_GOLDEN where it is set.
set -u
parity=$1/examples/tttlib_parity golden=$2 edit=$3
. "$(dirname "$0")/expect.sh"

# fails_clearly ARGUMENTS…: no case passes, nor comes within a factor of ten of what is allowed in float.
fails_clearly() {
  expect 1 "0 passed, $1 failed" "$parity" --perturb "${@:2}"
  if grep -E 'outputs [0-9.]+e-(0[5-9]|[1-9])' "$work/output"; then
    echo "FAIL: these cases only just fail"; failures=$((failures + 1))
  fi
}

for dtype in double float; do
  for path in fused closed nested; do
    expect 0 "8 passed, 0 failed" "$parity" --dtype $dtype --path $path "$golden"
    fails_clearly 8 --dtype $dtype --path $path "$golden"
  done
done

mkdir "$work/empty"
expect 1 "no case ran" "$parity" "$work/empty"
expect_error "ttt::parity: no such file or folder: $work/missing" "$parity" "$work/missing"
expect_error "ttt::tttlib_parity: --path: quick not in {fused,closed,nested}" "$parity" --path quick "$golden"
expect_error "ttt::tttlib_parity: files is required" "$parity"
expect_error "ttt::tttlib_parity: cannot write to the standard output" bash -c '"$0" "$1" > /dev/full' "$parity" "$golden/optim_and_loss.safetensors"
head -c 1000 "$golden/optim_and_loss.safetensors" > "$work/cut.safetensors"
expect 1 "FAIL  cut" "$parity" "$work/cut.safetensors"

# A NaN is the worst error, whatever comes after it; where exactly zero is expected the error is absolute.
"$edit" "$golden/optim_and_loss.safetensors" "$work/nan.safetensors" set schedule.cosine 3 nan
expect 1 "outputs inf" "$parity" "$work/nan.safetensors"
zeros=(metadata config '"lr": 0.004, "lr_min": 4e-05, "warmup_lr_init": 4e-06' '"lr": 0, "lr_min": 0, "warmup_lr_init": 0')
for i in $(seq 0 102); do zeros+=(set schedule.cosine "$i" 0); done
"$edit" "$golden/optim_and_loss.safetensors" "$work/zero.safetensors" "${zeros[@]}"
expect 0 "ok    zero" "$parity" "$work/zero.safetensors"
"$edit" "$work/zero.safetensors" "$work/notzero.safetensors" set schedule.cosine 102 1e-9
expect 1 "FAIL  notzero" "$parity" "$work/notzero.safetensors"

# Half of the gradients' tensors is no case that passes on its outputs.
block=ttt_block_dim48_heads3_5x7.safetensors inner=inner_mlp_l2_mae.safetensors
for case in $block $inner; do
  "$edit" "$golden/$case" "$work/half.safetensors" drop cotangent.y
  expect 1 "the file has gradients but no cotangent.y" "$parity" "$work/half.safetensors"
  "$edit" "$golden/$case" "$work/half.safetensors" drop grad.
  expect 1 "the file has a cotangent.y but no gradients" "$parity" "$work/half.safetensors"
  "$edit" "$golden/$case" "$work/outputs.safetensors" drop grad. drop cotangent.y
  expect 0 "1 passed, 0 failed" "$parity" "$work/outputs.safetensors"
done

if [ -n "${TTTLIB_GOLDEN:-}" ]; then
  expect 0 " 0 failed" "$parity" "$TTTLIB_GOLDEN"
  ran=$(grep -c '^ok' "$work/output")
  [ "$ran" -ge 33 ] || { echo "FAIL: only $ran cases of TTTLIB_GOLDEN ran"; failures=$((failures + 1)); }
  for path in closed nested; do
    expect 0 " 0 failed" "$parity" --path $path "$TTTLIB_GOLDEN"
  done
  for dtype in double float; do
    expect 0 " 0 failed" "$parity" --dtype $dtype "$TTTLIB_GOLDEN"
    for path in fused nested; do
      fails_clearly "$ran" --dtype $dtype --path $path "$TTTLIB_GOLDEN"
    done
  done
else
  echo "skipped: TTTLIB_GOLDEN is not set, so only the cases in tests/golden ran"
fi
finish
