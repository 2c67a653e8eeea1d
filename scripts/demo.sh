#!/usr/bin/env bash
# Trains a small ViT³ on built-in images of ten classes, or with --data DIR on CIFAR-10, and shows what it learned.
# From a fresh machine: installs what is missing, builds, trains. Options go to the program train_classifier, e.g.
#   scripts/demo.sh --data cifar-10-batches-bin --epochs 20
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

data=shapes out=
arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --data) data="${2:?--data needs a folder}"; shift 2 ;;
    --data=*) data="${1#*=}"; shift ;;
    --out) out="${2:?--out needs a folder}"; shift 2 ;;
    --out=*) out="${1#*=}"; shift ;;
    *) arguments+=("$1"); shift ;;
  esac
done
if [ -z "$out" ]; then
  case "$data" in
    shapes) out="$root/runs/demo" ;;
    *) out="$root/runs/demo-$(basename "$data")" ;;
  esac
fi

# The built-in set is learned by the smallest model in a few short epochs; photos get the program's defaults.
if [ "$data" = shapes ]; then
  arguments=(--model vit3_pico --shapes-count 8000 --epochs 6 --batch-size 32 --lr 3e-3 --warmup-epochs 0.5 --no-augment
             ${arguments[@]+"${arguments[@]}"})
fi

"$root/scripts/setup.sh" demo

started=$SECONDS
echo "Building (build/release)"
mkdir -p "$root/build"
log="$root/build/demo.log"
if ! (cd "$root" && cmake --preset release && cmake --build --preset release --target train_classifier) > "$log" 2>&1; then
  tail -n 40 "$log" >&2
  echo "The build failed; all of its output is in $log" >&2
  exit 1
fi
echo "Built in $((SECONDS - started)) s"

# The demo starts afresh each time it is called, unless --resume is among its options.
"$root/build/release/examples/train_classifier" --data "$data" --out "$out" --overwrite ${arguments[@]+"${arguments[@]}"}

echo
echo "Everything is in $out:"
(cd "$out" && find . -type f | sed 's|^\./|  |' | sort)
