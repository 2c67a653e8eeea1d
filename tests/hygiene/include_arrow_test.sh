#!/usr/bin/env bash
# Tests the checker: a sound tree passes, and each wrong include is rejected with a line that names it.
set -euo pipefail
check="$(cd "$(dirname "$0")" && pwd)/include_arrow.sh"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
failures=0

# A small sound tree.
fresh_tree() {
  rm -rf "$work/tttlib"
  mkdir -p "$work"/tttlib/{core,kernels,backend/cpu,backend/cuda,autograd,ops/composed,nn,models,io,train,data}
  cd "$work"
  echo '#include <string>' > tttlib/core/error.hpp
  echo '#include "tttlib/core/error.hpp"' > tttlib/core/tensor.hpp
  printf '#include <fmt/format.h>\n#include "tttlib/core/tensor.hpp"\n' > tttlib/core/print.hpp
  echo '#include <Eigen/Core>' > tttlib/backend/cpu/eigen.hpp
  echo '#include "tttlib/core/tensor.hpp"' > tttlib/backend/backend.hpp
  echo '#include "tttlib/backend/backend.hpp"' > tttlib/backend/cuda/matmul.cuh
  echo '#include "tttlib/core/tensor.hpp"' > tttlib/autograd/node.hpp
  echo '#include "tttlib/autograd/node.hpp"' > tttlib/ops/matmul.hpp
  echo '#include "tttlib/ops/matmul.hpp"' > tttlib/ops/composed/softmax.hpp
  echo '#include "tttlib/ops/matmul.hpp"' > tttlib/nn/linear.hpp
  echo '#include "tttlib/nn/linear.hpp"' > tttlib/models/vit3.hpp
  echo '#include "tttlib/core/tensor.hpp"' > tttlib/io/safetensors.hpp
  echo '#include <nlohmann/json.hpp>' > tttlib/io/safetensors-inl.hpp
  echo '#include "tttlib/io/safetensors.hpp"' > tttlib/train/trainer.hpp
  printf '#include "tttlib/models/vit3.hpp"\n#include "tttlib/core/print.hpp"\n' > tttlib/tttlib.hpp
}

# rejected FILE LINE WORDS: the tree with LINE added to FILE must fail, and the report must contain WORDS.
rejected() {
  fresh_tree
  echo "$2" >> "tttlib/$1"
  local report
  if report="$("$check" "$work" 2>&1)"; then
    echo "accepted, but should not be: $2 in $1"; failures=$((failures + 1))
  elif ! grep -qF "$3" <<< "$report"; then
    echo "rejected $2 in $1 without naming it ($3): $report"; failures=$((failures + 1))
  fi
}

fresh_tree
"$check" "$work" > /dev/null || { echo "a sound tree was rejected"; failures=$((failures + 1)); }

rejected core/tensor.hpp        '#include "tttlib/autograd/node.hpp"'    'core may not include autograd'
rejected backend/backend.hpp    '#include "tttlib/ops/matmul.hpp"'       'backend may not include ops'
rejected ops/matmul.hpp         '#  include <tttlib/nn/linear.hpp>'      'ops may not include nn'
rejected nn/linear.hpp          '#include "tttlib/models/vit3.hpp"'      'nn may not include models'
rejected models/vit3.hpp        '#include "tttlib/io/safetensors.hpp"'   'models may not include io'
rejected tttlib.hpp             '#include "tttlib/train/trainer.hpp"'    'umbrella may not include train'
rejected core/tensor.hpp        '#include "tttlib/tttlib.hpp"'           'core may not include umbrella'
rejected core/tensor.hpp        '#include "tttlib/core/missing.hpp"'     'no such header'
rejected core/tensor.hpp        '#include "error.hpp"'                   'write the full path'
rejected ops/matmul.hpp         '#include <Eigen/Core>'                  'only through'
rejected ops/matmul.hpp         '#include <immintrin.h>'                 'only through'
rejected io/safetensors.hpp     '#include <nlohmann/json.hpp>'           'JSON belongs'
rejected train/trainer.hpp      '#include <CLI/CLI.hpp>'                 'command line'
rejected core/error.hpp         '#include <fmt/core.h>'                  'cannot include fmt'
rejected backend/cuda/matmul.cuh '#include "tttlib/core/print.hpp"'      'cannot include fmt'
rejected backend/cuda/matmul.cuh '#include "tttlib/backend/cpu/eigen.hpp"' 'CUDA code may not include'
rejected ops/matmul.hpp         '#include "tttlib/backend/cuda/matmul.cuh"' 'only CUDA code'
rejected core/tensor.hpp        '#include <cuda_runtime.h>'              'CUDA headers belong'
rejected core/tensor.hpp        '#include <nlohmann/json.hpp>'           'the umbrella stays light'
fresh_tree
mkdir "$work/tttlib/misc" && echo '#pragma once' > "$work/tttlib/misc/helpers.hpp"
"$check" "$work" > /dev/null && { echo "a folder outside the table was accepted"; failures=$((failures + 1)); }

[ "$failures" -eq 0 ] && echo "the checker rejects every wrong include"
exit "$failures"
