#!/usr/bin/env bash
# The full test, from nothing: compiles the CUDA kernels where there is nvcc (no GPU is needed); builds with g++ and runs
# every test; checks headers and a consumer project with clang; runs core and autograd tests under the address and
# undefined-behaviour sanitizers. Ends with a table of steps and times.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/scripts/setup.sh" test
cd "$root"
jobs="$(getconf _NPROCESSORS_ONLN)"
logs="$root/build/logs"
mkdir -p "$logs"

passed=0 failed=0
table=()

# step NAME COMMAND...: runs it with its output in a log; shows the end of the log if it fails.
step() {
  local name="$1" started=$SECONDS log outcome; shift
  log="$logs/$(tr -cs 'a-z0-9\n' '-' <<< "$name").log"
  printf '%-58s ' "$name"
  if "$@" > "$log" 2>&1; then
    outcome=ok passed=$((passed + 1))
  else
    outcome=FAILED failed=$((failed + 1))
  fi
  printf '%s, %d s\n' "$outcome" $((SECONDS - started))
  table+=("$(printf '%-58s %-6s %5d s' "$name" "$outcome" $((SECONDS - started)))")
  if [ "$outcome" = FAILED ]; then tail -n 60 "$log"; echo "(all of it: $log)"; return 1; fi
}
skipped() { printf '%-58s skipped: %s\n' "$1" "$2"; table+=("$(printf '%-58s skipped: %s' "$1" "$2")"); }

# Our code is free of warnings with g++ 12; later compilers may know new ones, which should not stop anybody.
werror=OFF
if [ "$(${CXX:-c++} -dumpversion | cut -d. -f1)" = 12 ]; then werror=ON; fi

cuda=OFF
nvcc="$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)"
release="$([ -x "$nvcc" ] && "$nvcc" --version | grep -o 'release [0-9.]*' | cut -d' ' -f2 || echo 0)"
if [ "$(printf '12.4\n%s\n' "$release" | sort -V | head -n 1)" = 12.4 ]; then cuda=ON; fi
cuda_kernels() {
  if [ $cuda = ON ]; then step "nvcc: kernels and headers" cmake --build --preset release -j "$jobs" --target tttlib_cuda tttlib_cuda_headers
  else skipped "nvcc: kernels and headers" "no nvcc 12.4 or later on this machine"; fi
}

if step "release: configure" cmake --preset release -DTTTLIB_WERROR=$werror -DTTTLIB_CUDA=$cuda &&
   { cuda_kernels || true; } &&
   step "release: build" cmake --build --preset release -j "$jobs"; then
  step "release: tests" ctest --preset release -j "$jobs" --no-tests=error -LE clang || true
  step "clang: headers and consumer project" ctest --preset release -j "$jobs" --no-tests=error -L clang || true
fi
if step "sanitizers: configure" cmake --preset asan &&
   step "sanitizers: build" cmake --build --preset asan -j "$jobs"; then
  step "sanitizers: core and autograd tests" ctest --preset asan -j "$jobs" --no-tests=error || true
fi
echo
printf '%s\n' "${table[@]}"
printf 'in all: %d s\n' "$SECONDS"
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
