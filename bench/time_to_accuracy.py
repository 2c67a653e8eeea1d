#!/usr/bin/env python3
"""How long tttlib and PyTorch take from the start of a process to an accuracy on CIFAR-10, as one table and one JSON file.

  bench/time_to_accuracy.py --trainer build/release/examples/train_classifier --data DIR --out bench/results/time_to_accuracy
  bench/time_to_accuracy.py --trainer build/gpu/examples/train_classifier --data DIR --device cuda:0 --dtype bf16 --out …

Runs examples/train_classifier and bench/peers/torch_train.py in turn, one at a time, each in a process of its own, and notes when
their lines come: the first step, and each epoch with its test accuracy. Before that it sees to it that both do the same: a few
steps from the same weights on the same pictures have to give the same losses and learning rates. On the CPU, PyTorch runs at the
best of several settings of threads and BLAS; PyTorch 2 also compiled, and on a GPU each of the two also with CUDA graphs.

Writes OUT.md and OUT.json after every run, and stops by itself when the time is up; called again at the same commit on the same
machine with the same options it goes on where it stopped, also with more seeds. A run that fails or never gets there is in the
table. --trial trains a small model on pictures of its own on the CPU in less than a minute, to see that everything fits together.
"""

import contextlib
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from compare import CORES, FAIR, HERE, argument_parser, commit, earlier, peer_settings, prepared, processor, run, torch_version, write
from compare_gpu import card

RECIPE = {"weight-decay": 0.05, "label-smoothing": 0.1, "clip-grad": 5}
TRAINING_FILES, TEST_FILE = [f"data_batch_{i}.bin" for i in range(1, 6)], "test_batch.bin"
RECORD_BYTES = 1 + 3 * 32 * 32


def numbers(text):
    return [int(word) for word in text.split(",")]


def parse_arguments():
    parser = argument_parser(__doc__, "writes OUT.md and OUT.json", program="trainer")
    subset = os.environ.get("TTTLIB_DATA") and os.path.join(os.environ["TTTLIB_DATA"], "cifar-10-subset")
    parser.add_argument("--data", default=subset, help="folder of CIFAR-10 binary files; default: cifar-10-subset in TTTLIB_DATA")
    parser.add_argument("--model", default="vit3_nano")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warmup-epochs", type=float, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--threads", type=int, default=len(CORES))
    parser.add_argument("--target", type=float, default=0.6, help="test top-1; what 10,000 images teach vit3_nano in 20 epochs is 0.63 and more")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], metavar="S,S,…")
    parser.add_argument("--seconds", type=float, default=36000, help="stop after that long")
    parser.add_argument("--trial", action="store_true", help="a small model, pictures of its own, on the CPU")
    return parser.parse_args()


def write_pictures(folder, train, test):
    """A folder like CIFAR-10's: noise around the colour of its class."""
    draw = random.Random(0)
    colours = [[draw.randrange(192) for _ in range(3)] for _ in range(10)]
    os.makedirs(folder)
    for name in [*TRAINING_FILES, TEST_FILE]:
        with open(os.path.join(folder, name), "wb") as file:
            for i in range(test if name == TEST_FILE else train // len(TRAINING_FILES)):
                file.write(bytes([i % 10]) + bytes(level + draw.getrandbits(6) for level in colours[i % 10] for _ in range(32 * 32)))
    with open(os.path.join(folder, "batches.meta.txt"), "w") as file:
        file.writelines(f"colour {i}\n" for i in range(10))


def images_in(folder, names):
    return sum(os.path.getsize(os.path.join(folder, name)) for name in names) // RECORD_BYTES


def options(**values):
    return [word for name, value in values.items() for word in ("--" + name.replace("_", "-"), str(value))]


def training(program, arguments, **more):
    """The command that trains: what the two programs have in common."""
    same = {"data": arguments.data, "model": arguments.model, "epochs": arguments.epochs, "batch-size": arguments.batch_size, "lr": arguments.lr,
            "warmup-epochs": arguments.warmup_epochs, "device": arguments.device, "dtype": arguments.dtype, **RECIPE}
    return program + options(**{**same, **more})


def watch(command, environment, pinned, seconds):
    """Runs a training; its lines of metrics, and when they came, in seconds since the start. Raises RuntimeError, TimeoutError."""
    late = threading.Event()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        out = os.path.join(folder, "run")
        cold = environment | {"TORCHINDUCTOR_CACHE_DIR": os.path.join(folder, "compiled")}  # no run finds what an earlier one compiled
        start, first_step, times = time.monotonic(), None, []
        process = subprocess.Popen(**prepared([*command, "--out", out], cold, pinned), stdout=subprocess.PIPE, stderr=errors, text=True,
                                   start_new_session=True)

        def kill():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it has started

        timer = threading.Timer(seconds, lambda: (late.set(), kill()))
        try:
            timer.start()
            for line in process.stdout:
                if line.startswith("first step"):
                    first_step = time.monotonic() - start
                if line.startswith("epoch "):
                    times.append(time.monotonic() - start)
            code, whole = process.wait(), time.monotonic() - start
        finally:
            timer.cancel()
            kill()
            process.wait()
        if late.is_set():
            raise TimeoutError(f"{' '.join(command)} took more than {seconds:.0f} s")
        if code != 0:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed with {code}:\n{errors.read()[-2000:]}")
        if first_step is None:
            raise RuntimeError(f"{' '.join(command)} says nothing of its first step: built from another commit?")
        with open(os.path.join(out, "metrics.jsonl")) as file:
            metrics = [json.loads(line) for line in file]
        if len(metrics) != len(times):
            raise RuntimeError(f"{' '.join(command)} printed {len(times)} epochs and wrote {len(metrics)}")
        epochs = [line | {"at": round(at, 3)} for line, at in zip(metrics, times)]
    return {"first_step": round(first_step, 3), "whole": round(whole, 3), "epochs": epochs}


def agreement(arguments, ours, peer, seconds):
    """Both programs on the CPU from the same weights on the same pictures, a step an epoch: how far losses and rates are apart at most."""
    with tempfile.TemporaryDirectory() as folder:
        data, start = os.path.join(folder, "data"), os.path.join(folder, "start")
        write_pictures(data, train=40, test=40)
        # So much decay and clipping that a step without them would have another loss.
        same = {"data": data, "batch-size": 40, "epochs": 6, "warmup-epochs": 2, "weight-decay": 5, "clip-grad": 0.3,
                "threads": 1, "device": "cpu", "dtype": "float32"}
        run_quietly(training(ours, arguments, **same | {"epochs": 1}, out=start) + ["--no-augment"])
        same["weights"] = os.path.join(start, "last.safetensors")
        a, b = (watch(training(program, arguments, **same) + ["--no-augment"], FAIR, True, seconds)["epochs"] for program in (ours, peer))
    return {"steps": len(a), "losses": max(abs(x[key] - y[key]) for x, y in zip(a, b) for key in ("train_loss", "test_loss")),
            "rates": max(abs(x["lr"] - y["lr"]) / y["lr"] for x, y in zip(a, b)), "rates_of": [x["lr"] for x in a]}


def best_setting(arguments, settings):
    """The setting in which PyTorch trains fastest, by a few steps in each; the first one if it can train in none."""
    common = options(model=arguments.model, mode="train", batch=arguments.batch_size, repeat=8, dtype=arguments.dtype) + ["--json"]
    program = [arguments.python, os.path.join(HERE, "peers", "torch_vit3.py")]

    def rate(name):
        words, environment, pinned = settings[name]
        try:
            return run(program + common + words, environment, pinned)["images_per_second"]
        except RuntimeError:
            return 0

    return max(settings, key=rate)


def outcome(result, target):
    """Seconds and epochs to the target, infinite where it is not reached."""
    reached = (epoch for epoch in result.get("epochs", []) if epoch["test_top1"] >= target)
    epoch = next(reached, {"at": float("inf"), "epoch": float("inf")})
    return epoch["at"], epoch["epoch"]


def spread(values, digits=1):
    """Median and range; "never" is infinite."""
    shown = [f"{value:.{digits}f}" if value < float("inf") else "never" for value in (statistics.median(values), min(values), max(values))]
    return shown[0] if shown[1] == shown[2] else f"{shown[0]} ({shown[1]} to {shown[2]})"


def introduction(facts):
    same = facts["agreement"]
    return f"""\
# Time to a test accuracy of {facts['target']:.2f}, tttlib and PyTorch on {facts['machine']}

{facts['date']}, {facts['system']}, {facts['cores']} cores, load before {facts['load']}{facts['driver'] and ', driver ' + facts['driver'] or ''};
PyTorch {facts['torch']}, setting: {facts['setting']}; tttlib at {facts['commit']}. Command: `{facts['command']}`.

{facts['model']} on {facts['data']}, computed on {facts['device']} in {facts['dtype']}, {facts['threads']} threads:
{facts['epochs']} epochs in batches of {facts['batch_size']}, rate {facts['lr']} after {facts['warmup_epochs']:g} epochs of warm-up and on a cosine to 0,
decay {RECIPE['weight-decay']}, label smoothing {RECIPE['label-smoothing']}, clipping at norm {RECIPE['clip-grad']}, flips and crops, a test after each epoch.
In {same['steps']} steps from the same weights on the same pictures both have the same losses, to {same['losses']:.1e}, and learning rates, to {same['rates']:.1e}.

One process per run, one run at a time, the systems in turn; seconds count from the start of the process. Medians over the seeds, ranges in
brackets. tttlib also writes weights and the state of training after each epoch.
"""


def summary(name, runs, target, ours):
    """The line of one system; ours: the median of tttlib's seconds."""
    seconds, epochs = zip(*(outcome(r, target) for r in runs))
    done = [r for r in runs if "epochs" in r]
    cells = [name, f"{sum(s < float('inf') for s in seconds)} of {len(runs)}"] + ([] if done else ["failed"] + [""] * 6)
    if done:
        ratio = statistics.median(seconds) / ours
        cells += [spread(seconds), f"**{ratio:.2f}**" if 0 < ratio < float("inf") else "", spread(epochs, 0),
                  spread([statistics.median(epoch["images_per_second"] for epoch in r["epochs"]) for r in done], 0),
                  spread([r["first_step"] for r in done], 2), spread([r["epochs"][-1]["test_top1"] for r in done], 4), spread([r["whole"] for r in done])]
    return cells


def failed(result):
    """What a run that failed said last."""
    return ["failed: " + (result["error"].strip().splitlines() or [""])[-1].replace("|", "\\|"), "", "", ""]


def table(results, facts):
    target = facts["target"]
    row = lambda cells: "| " + " | ".join(str(cell) for cell in cells) + " |"
    head = ["system", f"runs that reached {target:.2f}", "seconds to it", "times tttlib's", "epochs to it", "images/s in training", "seconds to the first step",
            "final top-1", "seconds in all"]
    lines = [introduction(facts), row(head), "|---" * len(head) + "|"]
    systems = {}
    for result in results:
        systems.setdefault(result["system"], []).append(result)
    ours = statistics.median([outcome(r, target)[0] for r in systems.get("tttlib", [])] or [float("inf")])
    lines += [row(summary(name, runs, target, ours)) for name, runs in systems.items()]
    head = ["system", "seed", "seconds", "epoch", "final top-1", "training loss"]
    lines += ["", row(head), "|---" * len(head) + "|"]
    for r in results:
        seconds, epoch = outcome(r, target)
        last = r["epochs"][-1] if "epochs" in r else None
        cells = [spread([seconds]), spread([epoch], 0), f"{last['test_top1']:.4f}", f"{last['train_loss']:.4f}"] if last else failed(r)
        lines.append(row([r["system"], r["seed"], *cells]))
    return "\n".join(lines) + "\n"


def run_quietly(command):
    done = subprocess.run(**prepared(command, {}), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")


def compare(arguments, folder):
    """Returns how many runs are lacking, and the results."""
    end = time.monotonic() + arguments.seconds
    data = f"{images_in(arguments.data, TRAINING_FILES):,} training and {images_in(arguments.data, [TEST_FILE]):,} test images of {folder}"
    gpu = {} if arguments.device == "cpu" else card()
    torch = torch_version(arguments.python)
    facts = {"date": time.strftime("%Y-%m-%d"), "machine": gpu.get("name") or processor(), "driver": gpu.get("driver"), "system": platform.platform(),
             "cores": len(CORES), "torch": torch, "commit": commit(), "data": data}
    for key in ("model", "epochs", "batch_size", "lr", "warmup_epochs", "device", "dtype", "threads", "target"):
        facts[key] = getattr(arguments, key)
    facts, results = earlier(arguments.out, facts)
    facts["command"] = " ".join(["bench/time_to_accuracy.py", *sys.argv[1:]]).replace(arguments.data, "DIR")

    ours, peer = [arguments.trainer], [arguments.python, os.path.join(HERE, "peers", "torch_train.py")]
    if arguments.device == "cpu":
        settings = {name: (words, FAIR | environment, threads == 1) for threads in sorted({1, arguments.threads})
                    for name, words, environment in peer_settings(threads)}
    else:
        settings = {"as installed": ([], FAIR, False)}
    if "agreement" not in facts:
        facts["load"] = " ".join(f"{x:.1f}" for x in os.getloadavg())
        facts["agreement"] = agreement(arguments, ours, peer, min(600, (end - time.monotonic()) / 3))
        if not (facts["agreement"]["losses"] <= 1e-4 and facts["agreement"]["rates"] <= 1e-9):
            raise RuntimeError(f"the two programs do not train alike: {facts['agreement']}")
        facts["setting"] = next(iter(settings)) if len(settings) == 1 or arguments.trial else best_setting(arguments, settings)
        write(arguments.out, facts, results, table)
    words, environment, pinned = settings[facts["setting"]]
    mine = ours + options(threads=arguments.threads)
    systems = {"tttlib": (mine, {}, False)}
    if arguments.device != "cpu":
        systems["tttlib --graph"] = (mine + ["--graph"], {}, False)
    systems["PyTorch"] = (peer + words, environment, pinned)
    if int(torch.split(".")[0]) >= 2 and not arguments.trial:
        systems["PyTorch --compile"] = (peer + words + ["--compile"], environment, pinned)
        if arguments.device != "cpu":
            systems["PyTorch --compile reduce-overhead"] = (peer + words + ["--compile", "reduce-overhead"], environment, pinned)

    lacking = 0
    for seed in arguments.seeds:
        for name, (program, environment, pinned) in systems.items():
            if any(r["system"] == name and r["seed"] == seed for r in results):
                continue
            left = end - time.monotonic()
            if left < max([30.0] + [1.1 * r["whole"] for r in results if r["system"] == name and "whole" in r]):
                lacking += 1
                continue
            result = {"system": name, "seed": seed}
            try:
                result |= watch(training(program, arguments, seed=seed), environment, pinned, left)
            except TimeoutError as error:
                print(error, file=sys.stderr)
                lacking += 1
                continue
            except RuntimeError as error:
                print(error, file=sys.stderr)
                result["error"] = str(error)
            results.append(result)
            write(arguments.out, facts, results, table)
            print(table(results, facts).splitlines()[-1], flush=True)
    return lacking, results


def main():
    arguments = parse_arguments()
    if not torch_version(arguments.python):
        sys.exit(f"time_to_accuracy.py: {arguments.python} has no torch")
    if arguments.device != "cpu" and not card():
        sys.exit("time_to_accuracy.py: no GPU here that nvidia-smi knows of")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.trial:
            arguments.data, arguments.model, arguments.device = os.path.join(folder, "pictures"), "vit3_pico", "cpu"
            arguments.epochs, arguments.batch_size, arguments.warmup_epochs, arguments.seeds = 4, 16, 0.5, [0]
            write_pictures(arguments.data, train=400, test=100)
        if not arguments.data or not os.path.exists(os.path.join(arguments.data, TEST_FILE)):
            sys.exit(f"time_to_accuracy.py: no CIFAR-10 files in {arguments.data}: --data names the folder of {TEST_FILE}")
        try:
            lacking, results = compare(arguments, os.path.basename(os.path.abspath(arguments.data)))
        except (RuntimeError, OSError) as error:
            sys.exit(f"time_to_accuracy.py: {error}")
        except KeyboardInterrupt:
            sys.exit("time_to_accuracy.py: interrupted; the same command goes on from the last finished run")
    if lacking:
        print(f"{lacking} runs are still to be made: the same command goes on")
    print(f"written to {arguments.out}.md and {arguments.out}.json")
    if any("error" in r and r["system"].startswith("tttlib") for r in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
