#!/usr/bin/env bash
# bench/time_to_accuracy.py and the peer's training: a trial of the whole, bad input, and the peer's augmentation against ours by
# definition. Skipped where no Python has PyTorch.
set -u
train=$1/examples/train_classifier
bench="$(cd "$(dirname "$0")/../.." && pwd)/bench"
. "$(dirname "$0")/expect.sh"

python=
for candidate in "${TTTLIB_PYTHON:-python3}" /usr/bin/python3; do
  if [ -z "$python" ] && "$candidate" -c 'import torch' 2> /dev/null; then python=$candidate; fi
done
if [ -z "$python" ]; then
  echo "skipped: neither python3 nor /usr/bin/python3 has torch"
  exit 77
fi
compare=("$python" "$bench/time_to_accuracy.py" --trainer "$train")

expect_error "time_to_accuracy.py: no CIFAR-10 files in $work" "${compare[@]}" --data "$work" --out "$work/none"
if [ ! -e /dev/nvidia0 ]; then expect_error "no GPU here" "${compare[@]}" --data "$work" --device cuda:0 --out "$work/none"; fi
expect_error "No such file or directory: '$work/missing'" "$python" "$bench/time_to_accuracy.py" --trainer "$work/missing" --trial --out "$work/none"

# Both learn, from the same start they make the same losses, and a second call has nothing left to do.
expect 0 "written to $work/trial.md" "${compare[@]}" --trial --out "$work/trial"
expect 0 "both learn, and alike" "$python" - "$work/trial.json" << 'CHECK'
import json, sys
found = json.load(open(sys.argv[1]))
same = found["facts"]["agreement"]
assert same["steps"] == 6 and same["losses"] < 1e-4 and same["rates"] < 1e-9, same
assert [r["system"] for r in found["results"]] == ["tttlib", "PyTorch"], found["results"]
for r in found["results"]:
    first, last = r["epochs"][0], r["epochs"][-1]
    assert len(r["epochs"]) == 4 and last["test_top1"] > 0.9 and last["train_loss"] < first["train_loss"], r
    assert 0 < r["first_step"] < first["at"] < last["at"] <= r["whole"], r
print("both learn, and alike")
CHECK
for text in "| tttlib | 1 of 1 | " "| PyTorch | 1 of 1 | " "both have the same losses, to "; do expect 0 "$text" cat "$work/trial.md"; done
cp "$work/trial.json" "$work/before.json"
expect 0 "written to $work/trial.md" "${compare[@]}" --trial --out "$work/trial"
same "$work/trial.json" "$work/before.json"

# A run that fails is in the table as such, and if it is ours the program ends with 1.
"$python" - "$bench" "$work/broken" << 'BREAK'
import sys
sys.path.insert(0, sys.argv[1])
from time_to_accuracy import write_pictures
write_pictures(sys.argv[2], 40, 10)
open(sys.argv[2] + "/data_batch_3.bin", "r+b").write(bytes([77]))
BREAK
expect 1 "label out of range" "${compare[@]}" --data "$work/broken" --model vit3_pico --epochs 1 --batch-size 8 --threads 1 --seeds 5 --out "$work/failed"
for system in tttlib PyTorch; do expect 0 "| $system | 5 | failed: " cat "$work/failed.md"; done

# Every window of the bordered picture, mirrored or not: what include/tttlib/data/augment.hpp says.
expect 0 "windows of the picture" "$python" - "$bench" "$work" << 'CHECK'
import os, sys
sys.path.insert(0, sys.argv[1]), sys.path.insert(0, os.path.join(sys.argv[1], "peers"))
sys.argv = sys.argv[:1] + sys.argv[2:]
folder = sys.argv.pop()
import torch, torch_train
from time_to_accuracy import write_pictures
write_pictures(os.path.join(folder, "pictures"), 10, 10)
images = torch_train.Images(os.path.join(folder, "pictures"), ["data_batch_1.bin"], 4, "cpu")
batch, labels = images.batch(torch.tensor([1] * 2000), augment=True)
raw = open(os.path.join(folder, "pictures", "data_batch_1.bin"), "rb").read()[3073:]
assert set(labels.tolist()) == {raw[0]}
plane = torch.tensor(list(raw[1:3073])).reshape(3, 32, 32) / 255
mean, stddev = (torch.tensor(v).reshape(3, 1, 1) for v in (torch_train.MEAN, torch_train.STDDEV))
bordered, seen = torch.nn.functional.pad(plane, (4, 4, 4, 4)), set()
for y in range(-4, 5):
    for x in range(-4, 5):
        for mirrored in (False, True):
            window = bordered[:, 4 + y:36 + y, 4 + x:36 + x]
            expected = ((window.flip(2) if mirrored else window) - mean) / stddev
            equal = ((batch - expected).abs().amax(dim=(1, 2, 3)) < 1e-5).nonzero().flatten().tolist()
            assert 1 <= len(equal) <= 40, (y, x, mirrored, len(equal))
            seen.update(equal)
assert len(seen) == 2000
plain, _ = images.batch(torch.tensor([1]), augment=False)
assert torch.allclose(plain[0], (plane - mean) / stddev, atol=1e-5)
print("windows of the picture")
CHECK
finish
