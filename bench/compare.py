#!/usr/bin/env python3
"""tttlib beside PyTorch: both programs in turn, several rounds, medians and ratios, as a table and as JSON.

  bench/compare.py --bench build/release/bench/tttlib_bench --out bench/results/cpu

PyTorch runs at the best of several settings of threads and BLAS: the first round tries them all, later rounds repeat the
best one. One-core cases are pinned to one core, ours and the peer's alike; where PyTorch is faster so than on more threads,
that is what counts for more threads too. Use scripts/bench.sh, which installs both.
"""

import argparse
import glob
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import zlib

CASES = [  # model (or ttt_heads: the TTT layer of ViT³-S without its projections), mode, batch, repeats of a step in one round
    ("vit3_nano", "train", 64, 8),
    ("vit3_tiny", "infer", 1, 12),
    ("vit3_tiny", "infer", 16, 6),
    ("vit3_tiny", "train", 16, 4),
    ("vit3_small", "infer", 16, 3),
    ("vit3_small", "train", 16, 2),
    ("ttt_heads", "infer", 16, 100),
    ("ttt_heads", "train", 16, 50),
]
CORES = sorted(os.sched_getaffinity(0))
CPUINFO = open("/proc/cpuinfo").read() if os.path.exists("/proc/cpuinfo") else ""
FAIR = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "16000000000", "OMP_WAIT_POLICY": "passive"}
if "avx512f" in CPUINFO:
    FAIR["OPENBLAS_CORETYPE"] = "SkylakeX"
HERE = os.path.dirname(os.path.abspath(__file__))


def peer_settings(threads):
    """(name, arguments, environment): ways to run PyTorch on that many threads."""
    libraries = sorted(glob.glob("/usr/lib/*/openblas-openmp")) + sorted(glob.glob("/usr/lib/*/openblas-pthread"))
    for library in libraries or [None]:
        blas = os.path.basename(library) if library else "the system's BLAS"
        environment = {"LD_LIBRARY_PATH": library} if library else {}
        yield f"{threads} threads, {blas}", ["--threads", str(threads)], environment
        if threads > 1:
            yield f"1 thread, {threads} of {blas}", ["--threads", "1", "--blas-threads", str(threads)], environment


def prepared(command, environment, pinned=False):
    """A command and its environment as subprocess takes them; pinned: to one core."""
    full = {k: v for k, v in os.environ.items() if k != "OPENBLAS_L2_SIZE"} | environment
    return {"args": (["taskset", "-c", str(CORES[0])] if pinned else []) + command, "env": full}


def run(command, environment, pinned=False, timeout=None):
    """The JSON object that a command prints. Raises RuntimeError with what it said if it fails, TimeoutError."""
    try:
        done = subprocess.run(**prepared(command, environment, pinned), capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{' '.join(command)} took more than {timeout:.0f} s") from None
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def argument_parser(description, out, program="bench"):
    """What all comparisons ask for; `program`: the option that names ours."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(f"--{program}", required=True, help={"bench": "the program tttlib_bench", "trainer": "the program train_classifier"}[program])
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--out", required=True, help=out)
    return parser


def torch_version(python):
    """PyTorch's version there; empty if there is none."""
    return subprocess.run([python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True).stdout.strip()


def processor():
    return next((line.split(":")[1].strip() for line in CPUINFO.splitlines() if line.startswith("model name")), platform.processor())


def commit():
    """The commit that is measured; where the tree has changes, with + and a number that stands for them. Those in bench/results do not count."""
    git = lambda *words: subprocess.run(["git", "-C", HERE, *words], capture_output=True, text=True).stdout.strip()
    changes = "".join(git(*words, "--", ":/", ":!/bench/results") for words in (("status", "--porcelain"), ("diff", "HEAD")))
    return git("rev-parse", "--short", "HEAD") + (f"+{zlib.crc32(changes.encode()):08x}" if changes else "")


def write(out, facts, results, table):
    """OUT.json, and OUT.md with the table; an interruption leaves what was there before."""
    os.makedirs(os.path.dirname(out) or ".", exist_ok=True)
    for ending, text in ((".json", json.dumps({"facts": facts, "results": results}, indent=1)), (".md", table(results, facts))):
        with open(out + ending + ".part", "w") as file:
            file.write(text)
        os.replace(out + ending + ".part", out + ending)


def earlier(out, facts):
    """Facts and results of OUT.json if those it shares with `facts` agree, the date aside; else `facts` and no results. Raises
    RuntimeError if the file cannot be read."""
    if os.path.exists(out + ".json"):
        try:
            with open(out + ".json") as file:
                before = json.load(file)
        except ValueError as error:
            raise RuntimeError(f"{out}.json is no JSON: {error}; move it away") from error
        if all(before["facts"].get(key) == value for key, value in facts.items() if key != "date"):
            return before["facts"] | facts, before["results"]
    return facts, []


def measure(case, threads, arguments):
    model, mode, batch, repeat = case
    common = ["--model", model, "--mode", mode, "--batch", str(batch), "--repeat", str(repeat), "--json"]
    pinned = threads == 1
    ours, peers = [], {}
    settings = list(peer_settings(threads))
    for round_ in range(arguments.rounds):
        ours.append(run([arguments.bench, *common, "--threads", str(threads)], {}, pinned))
        if round_ == 1:  # the best setting of the first round only
            settings = [max(settings, key=lambda s: peers[s[0]][0]["images_per_second"])]
        for name, extra, environment in settings:
            command = [arguments.python, os.path.join(HERE, "peers", "torch_vit3.py"), *common, *extra]
            peers.setdefault(name, []).append(run(command, FAIR | environment, pinned))
    middle = lambda results, key: statistics.median(r[key] for r in results)
    best = settings[0][0] if arguments.rounds > 1 else max(peers, key=lambda name: middle(peers[name], "images_per_second"))
    return {
        "model": model, "mode": mode, "batch": batch, "threads": threads,
        "images_per_second": middle(ours, "images_per_second"), "gflops": middle(ours, "gflops"),
        "peak_fraction": middle(ours, "peak_fraction"), "peak_rss_mib": max(r["peak_rss_mib"] for r in ours),
        "peer_images_per_second": middle(peers[best], "images_per_second"), "peer_setting": best,
        "peer_peak_rss_mib": middle(peers[best], "peak_rss_mib"),
        "ratio": middle(ours, "images_per_second") / middle(peers[best], "images_per_second"),
        "rounds": {"ours": [r["images_per_second"] for r in ours],
                   "peer": {name: [r["images_per_second"] for r in results] for name, results in peers.items()}},
    }


def with_best_peer(results):
    """The same results; the peer's rate is its best on at most as many threads."""
    for r in results:
        for other in results:
            same = all(other[key] == r[key] for key in ("model", "mode", "batch"))
            if same and other["threads"] < r["threads"] and other["peer_images_per_second"] > r["peer_images_per_second"]:
                for key in ("peer_images_per_second", "peer_setting", "peer_peak_rss_mib"):
                    r[key] = other[key]
                r["ratio"] = r["images_per_second"] / r["peer_images_per_second"]
    return results


def table(results, facts):
    lines = [f"# tttlib and PyTorch on {facts['processor']}", "",
             f"{facts['date']}, {facts['cores']} cores, {facts['system']}; PyTorch {facts['torch']}, tttlib at {facts['commit']}; "
             f"{facts['rounds']} rounds, both programs in turn, medians; load before: {facts['load']}.",
             f"Command: `{facts['command']}`. Peak: the share of the best rate that a large product of ours reaches on as many threads.",
             "ttt_heads: the TTT layer of ViT³-S without its projections, 14 × 14 tokens; training is forward and backward.", "",
             "| model | mode | batch | threads | tttlib, images/s | of peak | PyTorch, images/s | its setting | ratio | MiB | MiB, PyTorch |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in results:
        lines.append(f"| {r['model']} | {r['mode']} | {r['batch']} | {r['threads']} | {r['images_per_second']:.1f} | {100 * r['peak_fraction']:.0f} % | "
                     f"{r['peer_images_per_second']:.1f} | {r['peer_setting']} | **{r['ratio']:.2f}** | {r['peak_rss_mib']:.0f} | {r['peer_peak_rss_mib']:.0f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argument_parser(__doc__, "writes OUT.md and OUT.json")
    parser.add_argument("--only", help="cases of this model only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, len(CORES)}))
    arguments = parser.parse_args()
    torch = torch_version(arguments.python)
    if not torch:
        sys.exit(f"{arguments.python} has no torch; on Debian, install python3-torch")
    options = {name: getattr(arguments, name) for name in ("only", "rounds", "threads") if getattr(arguments, name) != parser.get_default(name)}
    words = [f"--{name} " + " ".join(map(str, value if isinstance(value, list) else [value])) for name, value in options.items()]
    facts = {"date": time.strftime("%Y-%m-%d"), "processor": processor(), "cores": len(CORES), "system": platform.platform(), "torch": torch,
             "commit": commit(), "command": " ".join(["scripts/bench.sh", *words]), "rounds": arguments.rounds,
             "load": " ".join(f"{x:.1f}" for x in os.getloadavg())}
    results = []
    for threads in arguments.threads:
        for case in CASES:
            if arguments.only and case[0] != arguments.only:
                continue
            try:
                results = with_best_peer(results + [measure(case, threads, arguments)])
            except RuntimeError as error:
                sys.exit(str(error))
            print(table(results, facts).splitlines()[-1], flush=True)
            write(arguments.out, facts, results, table)


if __name__ == "__main__":
    main()
