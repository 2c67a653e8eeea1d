#!/usr/bin/env bash
# Builds for the GPU of this machine and tests, sanitizes or measures there, each in under nine minutes:
#   scripts/gpu_check.sh build -DEigen3_DIR=…    compiles; -D options say where dependencies are that CMake does not find itself
#   scripts/gpu_check.sh test                    the tests of tests/cuda on the GPU, and all golden cases in float and double
#   scripts/gpu_check.sh sanitize                compute-sanitizer, memcheck and racecheck, on the tests tagged small
#   scripts/gpu_check.sh bench                   beside PyTorch; writes bench/results/gpu_NAME.md and .json, and then
#                                                time_to_accuracy_gpu.md and .json, if TTTLIB_DATA holds cifar-10-subset
# Needs nvcc, CMake, Ninja and what README.md names; `sanitize` compute-sanitizer, `bench` a Python with PyTorch. Golden cases
# are those of tests/golden and of the folder TTTLIB_GOLDEN. TTTLIB_GPU_ARCH=90 builds for another GPU than the present one,
# also where there is none.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
build="$root/build/gpu" logs="$root/build/gpu-logs"
seconds=540
SECONDS=0

complain() { echo "gpu_check.sh: $*" >&2; exit 1; }
left() { echo $((SECONDS < seconds ? seconds - SECONDS : 1)); }
say() { printf '%s\n' "$*"; }

mode="${1:-}"
case "$mode" in
  build | test | sanitize | bench) shift ;;
  *) complain "one of build, test, sanitize, bench is needed: ${mode:-nothing given}" ;;
esac
have_gpu() { command -v nvidia-smi > /dev/null && nvidia-smi -L 2> /dev/null | grep -q '^GPU'; }
architecture="${TTTLIB_GPU_ARCH:-}"
if ! have_gpu && { [ "$mode" != build ] || [ -z "$architecture" ]; }; then
  complain "no GPU here that nvidia-smi knows of. Hint: TTTLIB_GPU_ARCH=90 scripts/gpu_check.sh build compiles all the same"
fi
if [ -z "$architecture" ]; then architecture="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '. ')"; fi

passed=0 failed=0
# step NAME COMMAND…: runs it in the time that is left, with its output in a log; shows the end of the log if it fails.
step() {
  local name="$1" started=$SECONDS log; shift
  mkdir -p "$logs"
  log="$logs/$(tr -cs 'a-z0-9\n' '-' <<< "$name").log"
  printf '%-58s ' "$name"
  if timeout "$(left)" "$@" > "$log" 2>&1; then
    passed=$((passed + 1))
    printf 'ok, %d s\n' $((SECONDS - started))
  else
    failed=$((failed + 1))
    printf 'FAILED, %d s\n' $((SECONDS - started))
    tail -n 40 "$log"
    say "(all of it: $log)"
    return 1
  fi
}

targets=(tttlib_gpu_tests tttlib_program_with_cuda tttlib_parity tttlib_bench train_classifier visualize insight_1_loss)
compile() {  # only what has changed since the last time
  step "configure for sm_$architecture" cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DTTTLIB_ARCH=native -DTTTLIB_CUDA=ON \
    "-DTTTLIB_CUDA_ARCHITECTURES=$architecture" "$@" &&
    step "compile" cmake --build "$build" --target "${targets[@]}"
}

if have_gpu; then say "$(nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader | head -n 1)"; fi
if ! compile "$@"; then
  say "$passed passed, $failed failed"
  exit 1
fi

case "$mode" in
  test)
    step "tests on the GPU" ctest --test-dir "$build" -R '^(gpu/|cuda/(program_with_cuda|status))' --no-tests=error --output-on-failure || true
    if [ -n "${TTTLIB_GOLDEN:-}" ]; then
      for dtype in float double; do
        for path in fused nested; do
          step "golden cases: $dtype, $path" "$build/examples/tttlib_parity" --device cuda:0 --dtype $dtype --path $path "$TTTLIB_GOLDEN" || true
        done
      done
    else
      say "TTTLIB_GOLDEN is not set: only the golden cases of tests/golden ran"
    fi
    ;;
  sanitize)
    sanitizer="$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)"
    [ -x "$sanitizer" ] || complain "compute-sanitizer was not found; it is part of the CUDA Toolkit"
    for tool in memcheck racecheck; do
      step "compute-sanitizer $tool, tests tagged small" "$sanitizer" --tool $tool --error-exitcode 9 "$build/tests/cuda/tttlib_gpu_tests" "[small]" || true
    done
    ;;
  bench)
    python="${TTTLIB_PYTHON:-python3}"
    "$python" -c 'import torch' 2> /dev/null || python=/usr/bin/python3
    "$python" -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null ||
      complain "no Python with a PyTorch that can use the GPU; TTTLIB_PYTHON names another one than python3"
    # Both write after every case, and stop in time by themselves.
    "$python" "$root/bench/compare_gpu.py" --bench "$build/bench/tttlib_bench" --out "$root/bench/results" --seconds $(($(left) - 20)) || failed=$((failed + 1))
    if [ ! -d "${TTTLIB_DATA:-}/cifar-10-subset" ]; then
      say "TTTLIB_DATA names no folder with cifar-10-subset: no times to an accuracy"
    elif [ "$(left)" -gt 90 ]; then
      "$python" "$root/bench/time_to_accuracy.py" --trainer "$build/examples/train_classifier" --data "$TTTLIB_DATA/cifar-10-subset" --device cuda:0 \
        --dtype bf16 --out "$root/bench/results/time_to_accuracy_gpu" --seconds $(($(left) - 20)) || failed=$((failed + 1))
    else
      say "no time left for times to an accuracy: the same command goes on"
    fi
    ;;
esac
say "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
