#!/usr/bin/env python3
"""tttlib beside PyTorch on a GPU: eager and torch.compile, float32 and bf16 autocast, as one table and one JSON file per card.

  bench/compare_gpu.py --bench build/gpu/bench/tttlib_bench --out bench/results     # or scripts/gpu_check.sh bench

Writes OUT/gpu_NAME.md and .json after every case, and stops by itself when the time is up; called again at the same commit on
the same card it goes on where it stopped. A peer that fails is in the JSON with what it said. --trial measures two images on
the CPU, to see that everything fits together.
"""

import json
import os
import platform
import re
import select
import subprocess
import sys
import time

from compare import HERE, argument_parser, commit, earlier, run, torch_version, write

# Model, mode, batch, side of the images (None: the model's), timed steps; +matrix: attention with the whole matrix, +graph: steps as
# CUDA graphs.
CASES = [
    ("ttt_heads", "infer", 256, None, 50),
    ("ttt_heads", "train", 256, None, 50),
    ("vit3_small", "train", 256, None, 20),
    ("vit3_tiny", "train", 256, None, 20),
    ("vit3_small", "infer", 256, None, 20),
    ("vit3_tiny", "infer", 256, None, 20),
    ("vit3_nano+graph", "train", 512, None, 20),
    ("vit3_nano", "train", 512, None, 20),
    ("vit3_tiny", "infer", 8, 1248, 10),
    ("deit_tiny+matrix", "infer", 8, 1248, 10),
    ("deit_tiny", "infer", 8, 1248, 10),
    ("deit_tiny", "train", 256, None, 20),
    ("deit_tiny", "infer", 256, None, 20),
    ("vit3_tiny", "train", 8, 1248, 5),
    ("deit_tiny", "train", 8, 1248, 5),
    ("vit3_tiny+graph", "infer", 1, None, 50),
]
OURS = {"": [], "matrix": ["--path", "closed"], "graph": ["--graph"]}
PEERS = {"eager": [], "compiled": ["--compile"]}
DTYPES = ("bf16", "float32")


class Peer:
    """PyTorch in a process that measures one thing after the other."""

    def __init__(self, python):
        self.command, self.process = [python, os.path.join(HERE, "peers", "torch_vit3.py"), "--serve"], None

    def measure(self, words, timeout):
        """The JSON object for these arguments, {"error": ...} if it fails. Raises TimeoutError."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            self.process.kill()
            raise TimeoutError(f"PyTorch took more than {timeout:.0f} s for {' '.join(words)}")
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": f"the process ended with {self.process.wait()}"}


def card():
    """What nvidia-smi says of the first GPU; nothing where there is none."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return {}
    return dict(zip(("name", "driver", "memory"), (part.strip() for part in said.split(","))))


def measure(case, dtype, arguments, seconds, peer):
    name, mode, batch, side, repeat = case
    model, _, kind = name.partition("+")
    batch, repeat = (2, 1) if arguments.trial else (batch, repeat)
    common = ["--model", model, "--mode", mode, "--batch", str(batch), "--repeat", str(repeat), "--dtype", dtype, "--device", arguments.device, "--json"]
    common += ["--image-size", str(side)] if side else []
    memory = "peak_rss_mib" if arguments.device == "cpu" else "peak_device_mib"
    ours = run([arguments.bench, *common, *OURS[kind]], {}, timeout=seconds())
    ours["mib"] = ours[memory]
    result = {"model": name, "mode": mode, "batch": batch, "image_size": ours["image_size"], "dtype": dtype, "ours": ours, "peers": {}}
    for way, extra in PEERS.items():
        answer = peer.measure([*common, *extra, "--attention", "matrix" if kind == "matrix" else "fused"], seconds())
        if "error" not in answer:
            answer["mib"] = answer[memory]
        result["peers"][way] = answer  # with an error: no compiler for torch.compile, out of memory …
    return result


def table(results, facts):
    best = lambda dtype, key: max((r["ours"][key] for r in results if r["dtype"] == dtype), default=0)
    rates = ", ".join(f"{best(d, 'peak_product_gflops') / 1e3:.1f} TFLOP/s in products of {d}" for d in DTYPES if best(d, "peak_product_gflops"))
    copy = max((r["ours"]["peak_copy_gb_per_second"] for r in results), default=0)
    lines = [f"# tttlib and PyTorch on {facts['card']}", "",
             f"{facts['date']}, driver {facts['driver']}, PyTorch {facts['torch']}, tttlib at {facts['commit']}, {facts['system']}. "
             "One process for each of our numbers, one for all of PyTorch's; medians of timed steps.",
             f"Measured here, by tttlib: {rates}; {copy:.0f} GB/s read and written in a copy. Command: `scripts/gpu_check.sh bench`.",
             "Floor: the time of the arithmetic at that rate; of ttt_heads, the TTT layer of ViT³-S without its projections, the time of its least "
             "bytes if that is longer.", "",
             "| model | mode | batch | image | dtype | tttlib, images/s | times the floor | launches | PyTorch | images/s | ratio | MiB | MiB, PyTorch |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in results:
        ours = r["ours"]
        floors = 1e3 * r["batch"] / ours["images_per_second"] / ours["floor_ms"]
        first = (f"| {r['model']} | {r['mode']} | {r['batch']} | {r['image_size']} | {r['dtype']} | {ours['images_per_second']:.1f} | {floors:.1f} | "
                 f"{ours.get('launches', '')} |")
        for name, peer in r["peers"].items():
            if "error" in peer:
                lines.append(f"{first} {name} | failed | | {ours['mib']:.0f} | |")
            else:
                ratio = ours["images_per_second"] / peer["images_per_second"]
                lines.append(f"{first} {name} | {peer['images_per_second']:.1f} | **{ratio:.2f}** | {ours['mib']:.0f} | {peer['mib']:.0f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argument_parser(__doc__, "the folder to write into")
    parser.add_argument("--only", help="cases of this model only")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after that long")
    parser.add_argument("--trial", action="store_true", help="two images, one step, on the CPU")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    if arguments.trial:
        arguments.device = "cpu"
    gpu = {"name": "trial", "driver": "none", "memory": ""} if arguments.trial else card()
    if not gpu:
        sys.exit("compare_gpu.py: no GPU here that nvidia-smi knows of")
    torch = torch_version(arguments.python)
    if not torch:
        sys.exit(f"compare_gpu.py: {arguments.python} has no torch")
    facts = {"card": gpu["name"], "driver": gpu["driver"], "memory": gpu["memory"], "torch": torch, "commit": commit(),
             "system": platform.platform(), "date": time.strftime("%Y-%m-%d")}
    out = os.path.join(arguments.out, "gpu_" + re.sub("[^a-z0-9]+", "_", gpu["name"].lower()).strip("_"))
    try:
        (facts, results), peer = earlier(out, facts), Peer(arguments.python)
    except RuntimeError as error:
        sys.exit(f"compare_gpu.py: {error}")
    done = {(r["model"], r["mode"], r["image_size"], r["dtype"], r["batch"]) for r in results}
    cases = [(case, dtype) for dtype in DTYPES for case in CASES
             if arguments.only in (None, case[0]) and not (arguments.trial and "+graph" in case[0])]  # the CPU has no graphs
    lacking = 0
    for case, dtype in cases:
        batch, side = (2 if arguments.trial else case[2]), case[3] or (32 if case[0].startswith("vit3_nano") else 224)
        if (case[0], case[1], side, dtype, batch) in done:
            continue
        seconds = lambda: max(1.0, end - time.monotonic())
        try:
            if seconds() < 30:
                raise TimeoutError
            results.append(measure(case, dtype, arguments, seconds, peer))
        except TimeoutError:
            lacking += 1
            continue
        except RuntimeError as error:
            sys.exit(str(error))
        write(out, facts, results, table)
        print("\n".join(table(results, facts).splitlines()[-len(results[-1]["peers"]):]), flush=True)
    if lacking:
        print(f"{lacking} cases are still to be measured: the same command goes on")
    print(f"written to {out}.md and {out}.json")


if __name__ == "__main__":
    main()
