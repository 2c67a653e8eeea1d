#!/usr/bin/env python3
"""The peer for tttlib's numbers: ViT^3 in PyTorch (1.13 or later), and DeiT with the whole attention matrix or without it.

  torch_vit3.py --model vit3_nano --mode train --batch 64 --threads 2 --json    # measure
  torch_vit3.py --model vit3_small --batch 256 --device cuda:0 --dtype bf16 --compile    # on a GPU, autocast, compiled
  torch_vit3.py --model ttt_heads --mode train --batch 16                       # the TTT layer alone, without its projections
  torch_vit3.py --check FILE.safetensors ...                                    # compare with golden cases
  torch_vit3.py --serve                                                         # measures what lines of standard input ask for

Written from the equations of "ViT^3: Unlocking Test-Time Training in Vision" (arXiv 2512.01643): the inner
gradient in closed form, every image and head stepped at once, parameter names as in checkpoints. Steps run on
one fixed random batch: reading data is not part of the time. On a GPU the optimiser is PyTorch's fused one. The BLAS behind PyTorch decides the speed and is
part of the result; a reference BLAS is no fair peer (on Debian, install libopenblas0-pthread). So does malloc, which by
default returns every large block to the system and pays for its pages again; the fair setting keeps them:

  MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=16000000000 torch_vit3.py ...
"""

import argparse
import gc
import json
import os
import re
import resource
import statistics
import sys
import time
from collections import OrderedDict


def device_name(text):
    if not re.fullmatch("cpu|cuda(:[0-9]+)?", text):
        raise argparse.ArgumentTypeError(f"has to be cpu, cuda or cuda:N, not {text}")
    return text


def computing_options():
    """Where and how PyTorch computes: the options that every program here has."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--device", type=device_name, default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--dtype", choices=("float32", "bf16"), default="float32", help="bf16: autocast; weights stay float32")
    parser.add_argument("--compile", nargs="?", const="default", choices=("default", "reduce-overhead"),
                        help="torch.compile the model (PyTorch 2 or later); reduce-overhead: as CUDA graphs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blas-threads", type=int, help="threads of OpenBLAS alone; default: --threads")
    return parser


def parse_arguments(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter, parents=[computing_options()])
    parser.add_argument("--model", choices=("vit3_pico", "vit3_nano", "vit3_tiny", "vit3_small", "deit_tiny", "ttt_heads"), default="vit3_nano")
    parser.add_argument("--attention", choices=("matrix", "fused"), default="matrix", help="of deit_tiny: fused is scaled_dot_product_attention (PyTorch 2)")
    parser.add_argument("--mode", choices=("infer", "train"), default="train")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--image-size", type=int, help="default: the model's")
    parser.add_argument("--repeat", type=int, default=10, help="timed steps, after two untimed ones")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a sentence")
    parser.add_argument("--check", nargs="+", metavar="FILE", help="golden cases of kind vit3 or ttt_block")
    parser.add_argument("--serve", action="store_true", help="read lines of these arguments, print a JSON object for each")
    arguments = parser.parse_args(words)
    if min(arguments.batch, arguments.threads, arguments.repeat) < 1:
        parser.error("--batch, --threads and --repeat have to be at least 1")
    return arguments


ARGUMENTS = parse_arguments() if __name__ == "__main__" else computing_options().parse_known_args()[0]
# OpenBLAS and OpenMP read their thread counts once, when the imports below load them.
os.environ["OMP_NUM_THREADS"] = str(ARGUMENTS.threads)
os.environ["OPENBLAS_NUM_THREADS"] = str(ARGUMENTS.blas_threads or ARGUMENTS.threads)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

# name: (image size, patch, channels, depth, heads, classes, parameters)
MODELS = {
    "vit3_pico": (32, 4, 64, 4, 2, 10, 257_098),
    "vit3_nano": (32, 4, 96, 6, 3, 10, 795_562),
    "vit3_tiny": (224, 16, 192, 12, 6, 1000, 6_149_416),
    "vit3_small": (224, 16, 384, 12, 6, 1000, 23_799_400),
    "deit_tiny": (224, 16, 192, 12, 3, 1000, 5_717_416),
}


def clip(g, dims):
    return g / (g.norm(dim=dims, keepdim=True) + 1.0)


def rotary_2d(x, height, width):
    """Rotates neighbouring channels of x [B, N, C]: C/4 pairs by row * theta, then C/4 by column * theta."""
    count = x.shape[-1] // 4
    kind = {"dtype": x.dtype, "device": x.device}
    theta = 10000.0 ** (-torch.arange(count, **kind) / count)
    rows = torch.arange(height, **kind).repeat_interleave(width)
    columns = torch.arange(width, **kind).repeat(height)
    angle = torch.cat((rows[:, None] * theta, columns[:, None] * theta), dim=1)  # [N, C/2]
    a, b = x[..., 0::2], x[..., 1::2]
    rotated = (a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos())
    return torch.stack(rotated, dim=-1).flatten(-2)


class TttMixer(nn.Module):
    """[B, N, C] -> [B, N, C]: each image trains its glu heads and its 3x3 depthwise head, then reads out."""

    def __init__(self, dim, heads, qkv_bias=True, rope=False):
        super().__init__()
        self.heads, self.d, self.rope = heads, dim // heads, rope
        self.qkv = nn.Linear(dim, 3 * dim + 3 * self.d, bias=qkv_bias)
        self.w1 = nn.Parameter(torch.empty(1, heads, self.d, self.d))
        self.w2 = nn.Parameter(torch.empty(1, heads, self.d, self.d))
        self.w3 = nn.Parameter(torch.empty(self.d, 1, 3, 3))
        for w in (self.w1, self.w2, self.w3):
            nn.init.trunc_normal_(w, std=0.02)
        self.proj = nn.Linear(dim + self.d, dim)

    def forward(self, x, height, width):
        return self.proj(self.all_heads(self.qkv(x), height, width))

    def all_heads(self, qkv, height, width):
        """[B, N, 3C + 3d] -> [B, N, C + d]: the layer between its projections."""
        (batch, tokens, _), d, dim = qkv.shape, self.d, self.heads * self.d
        q1, k1, v1, q2, k2, v2 = qkv.split([dim, dim, dim, d, d, d], dim=-1)
        if self.rope:
            q1, k1 = rotary_2d(q1, height, width), rotary_2d(k1, height, width)
        # Contiguous once, or every product below copies its operands again.
        q1, k1, v1 = (t.reshape(batch, tokens, self.heads, d).transpose(1, 2).contiguous() for t in (q1, k1, v1))
        q2, k2, v2 = (t.transpose(1, 2).reshape(1, batch * d, height, width) for t in (q2, k2, v2))
        o1 = self.glu_heads(q1, k1, v1).transpose(1, 2).reshape(batch, tokens, dim)
        o2 = self.conv_head(q2, k2, v2, batch).reshape(batch, d, tokens).transpose(1, 2)
        return torch.cat((o1, o2), dim=-1)

    def glu_heads(self, q, k, v):
        """Takes q, k, v as [B, H, N, d]."""
        z1, z2 = k @ self.w1, k @ self.w2  # [B, H, N, d]
        gate = torch.sigmoid(z2)
        silu = z2 * gate
        e = v * (-1.0 / (3.0 * k.shape[2]))
        kt = k.transpose(-2, -1)
        g1 = kt @ (e * silu)  # [B, H, d, d]
        g2 = kt @ (e * z1 * (gate + silu * (1.0 - gate)))  # [B, H, d, d]
        return (q @ (self.w1 - clip(g1, -2))) * F.silu(q @ (self.w2 - clip(g2, -2)))

    def conv_head(self, q, k, v, batch):
        """Takes q, k, v as [1, B*d, h, w], so that a grouped convolution gives every image its own kernel."""
        groups = k.shape[1]
        e = v * (-1.0 / (3.0 * k.shape[2] * k.shape[3]))
        g3 = F.conv2d(k, e.transpose(0, 1), padding=1, groups=groups)  # [1, B*d, 3, 3]
        w3 = self.w3.repeat(batch, 1, 1, 1) - clip(g3.transpose(0, 1), (-2, -1))  # [B*d, 1, 3, 3]
        return F.conv2d(q, w3, padding=1, groups=groups)


class Block(nn.Module):
    def __init__(self, dim, heads, mlp_ratio):
        super().__init__()
        self.cpe = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = TttMixer(dim, heads)
        fc1, fc2 = nn.Linear(dim, dim * mlp_ratio), nn.Linear(dim * mlp_ratio, dim)
        self.mlp = nn.Sequential(OrderedDict(fc1=fc1, gelu=nn.GELU(), fc2=fc2))

    def forward(self, x, height, width):
        grid = x.transpose(1, 2).unflatten(2, (height, width))  # [B, C, h, w]
        x = x + self.cpe(grid).flatten(2).transpose(1, 2)
        x = x + self.attn(self.norm1(x), height, width)
        return x + self.mlp(self.norm2(x))


class Vit3(nn.Module):
    """Images [B, 3, R, R] -> logits [B, classes]; without drop path, which is 0 in the measured runs."""

    def __init__(self, patch, dim, depth, heads, classes, mlp_ratio=4):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, patch, stride=patch)})
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images):
        x = self.patch_embed["proj"](images)  # [B, C, h, w]
        height, width = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)  # [B, N, C]
        for block in self.blocks:
            x = block(x, height, width)
        return self.head(self.norm(x).mean(dim=1))


class Attention(nn.Module):
    """[B, N, C] -> [B, N, C]: softmax attention with the whole matrix of weights, or fused, without it."""

    def __init__(self, dim, heads, fused=False):
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each [B, H, N, d]
        if self.fused:
            return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, dim))
        weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)  # [B, H, N, N]; scaling q is cheaper than the matrix
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, dim))


class DeitBlock(nn.Module):
    def __init__(self, dim, heads, fused, mlp_ratio=4):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads, fused)
        self.mlp = nn.Sequential(nn.Linear(dim, dim * mlp_ratio), nn.GELU(), nn.Linear(dim * mlp_ratio, dim))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Deit(nn.Module):
    """Images [B, 3, R, R] -> logits [B, classes]; the head reads a class token."""

    def __init__(self, size, patch, dim, depth, heads, classes, fused=False):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, patch, stride=patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2 + 1, dim))
        self.blocks = nn.Sequential(*(DeitBlock(dim, heads, fused) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)

    def forward(self, images):
        x = self.patch_embed(images).flatten(2).transpose(1, 2)  # [B, N, C]
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


def read_safetensors(path, kind):
    """Returns metadata and tensors of a file in which all are of one kind: F64 or F32."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    metadata, tensors = header.pop("__metadata__", {}), {}
    for name, entry in header.items():
        if entry["dtype"] != kind:
            raise ValueError(f"{path}: {name} is {entry['dtype']}, expected {kind}")
        values = np.frombuffer(data[slice(*entry["data_offsets"])], {"F64": "<f8", "F32": "<f4"}[kind]).reshape(entry["shape"])
        tensors[name] = torch.from_numpy(values.copy())
    return metadata, tensors


def read_case(path):
    """Returns kind, config and double-precision tensors of a golden case."""
    metadata, tensors = read_safetensors(path, "F64")
    if "cotangent.y" not in tensors:
        raise ValueError(f"{path}: no cotangent.y; cases of filled models are not handled here")
    return metadata["case"], json.loads(metadata["config"]), tensors


def check(path):
    """Prints the relative errors of output and worst gradient; returns whether all are below 1e-10."""
    kind, config, tensors = read_case(path)
    if kind == "vit3":
        names = ("patch_size", "embed_dim", "depth", "num_heads", "num_classes", "mlp_ratio")
        module, grid = Vit3(*(config[name] for name in names)), ()
    elif kind == "ttt_block":
        module = TttMixer(config["dim"], config["num_heads"], config["qkv_bias"], config["rope"])
        grid = (config["height"], config["width"])
    else:
        raise ValueError(f"{path}: case {kind} is neither vit3 nor ttt_block")
    parameters = {k.removeprefix("param."): t for k, t in tensors.items() if k.startswith("param.")}
    module.double().load_state_dict(parameters)
    x = tensors["input.x"].requires_grad_()
    y = module(x, *grid)
    y.backward(tensors["cotangent.y"])
    actual = {"output.y": y.detach(), "grad.input.x": x.grad}
    actual.update({f"grad.param.{name}": p.grad for name, p in module.named_parameters()})
    errors = {name: ((t - tensors[name]).norm() / tensors[name].norm()).item() for name, t in actual.items()}
    worst = max((name for name in errors if name != "output.y"), key=errors.get)
    print(f"{os.path.basename(path)}: output {errors['output.y']:.1e}, {worst} {errors[worst]:.1e}")
    return all(error < 1e-10 for error in errors.values())


def precision(arguments):
    """Autocast to bf16 where it is asked for; a new one for every use."""
    return torch.autocast(arguments.device.split(":")[0], dtype=torch.bfloat16, enabled=arguments.dtype == "bf16")


def maybe_compiled(function, arguments):
    if not arguments.compile:
        return function
    if not hasattr(torch, "compile"):
        sys.exit(f"--compile needs PyTorch 2 or later, this is {torch.__version__}")
    return torch.compile(function, mode=arguments.compile)


class Training:
    """Steps of AdamW, which decays what has two axes or more, on smoothed labels and clipped gradients."""

    def __init__(self, model, arguments, lr=1e-3, weight_decay=0.05, label_smoothing=0.1, clip_grad=5.0):
        groups = [{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": weight_decay},
                  {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, **({"fused": True} if arguments.device != "cpu" else {}))
        self.model, self.arguments, self.compiled = model, arguments, maybe_compiled(model, arguments)
        self.label_smoothing, self.clip_grad = label_smoothing, clip_grad

    def step(self, images, labels):
        """The loss, still on the device."""
        self.optimizer.zero_grad(set_to_none=True)
        with precision(self.arguments):
            loss = F.cross_entropy(self.compiled(images), labels, label_smoothing=self.label_smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad)
        self.optimizer.step()
        return loss.detach()


def make_step(model, arguments, images, labels):
    """Returns one inference or training step as a function without arguments."""
    if arguments.mode == "train":
        training = Training(model, arguments)
        return lambda: training.step(images, labels)
    compiled = maybe_compiled(model.eval(), arguments)

    def answer():
        with precision(arguments):
            return compiled(images)

    return torch.inference_mode()(answer)


def make_heads_step(arguments, size):
    """The same for the heads of one block of ViT^3-S: forward, or forward and backward to q, k, v and the weights."""
    _, patch, dim, _, heads, _, _ = MODELS["vit3_small"]
    side = size // patch
    kind = {"device": arguments.device, "dtype": torch.bfloat16 if arguments.dtype == "bf16" else torch.float32}  # as a projection would hand it over
    mixer = TttMixer(dim, heads).to(arguments.device)
    qkv = torch.randn(arguments.batch, side * side, mixer.qkv.out_features, **kind)
    compiled = maybe_compiled(mixer.all_heads, arguments)

    def answer():
        with precision(arguments):
            return compiled(qkv, side, side)

    if arguments.mode == "infer":
        return torch.inference_mode()(answer)
    leaves = [qkv.requires_grad_(), mixer.w1, mixer.w2, mixer.w3]
    cotangent = torch.randn(arguments.batch, side * side, mixer.proj.in_features, device=arguments.device)

    def step():
        for leaf in leaves:
            leaf.grad = None
        y = answer()
        y.backward(cotangent.to(y.dtype))

    return step


def make_model(name, size, fused_attention=False):
    _, patch, dim, depth, heads, classes, expected = MODELS[name]
    if name == "deit_tiny":
        model = Deit(size, patch, dim, depth, heads, classes, fused=fused_attention)
    else:
        model = Vit3(patch, dim, depth, heads, classes)
    count = sum(p.numel() for p in model.parameters())
    if name == "deit_tiny":  # its positions grow with the image
        count += dim * ((MODELS[name][0] // patch) ** 2 - (size // patch) ** 2)
    assert count == expected, f"{name} has {count} parameters, expected {expected}"
    return model


def make_model_step(arguments, size):
    model = make_model(arguments.model, size, arguments.attention == "fused")
    images, labels = torch.randn(arguments.batch, 3, size, size), torch.randint(MODELS[arguments.model][5], (arguments.batch,))
    return make_step(model.to(arguments.device), arguments, images.to(arguments.device), labels.to(arguments.device))


def blas_in_use():
    """The BLAS libraries mapped into this process, each as folder/name."""
    with open("/proc/self/maps") as maps:
        paths = re.findall(r"/\S*lib(?:blas|blis|mkl_rt|openblas)\S*\.so\S*", maps.read())
    return sorted({"/".join(os.path.realpath(path).split("/")[-2:]) for path in paths})


def prepare(arguments, seed):
    """Seeds and threads; returns whether a GPU computes."""
    on_gpu = arguments.device != "cpu"
    if on_gpu and not torch.cuda.is_available():
        sys.exit(f"this PyTorch ({torch.__version__}) finds no GPU to use as {arguments.device}")
    torch.manual_seed(seed)
    torch.set_num_threads(arguments.threads)
    return on_gpu


def measure(arguments):
    size, patch = MODELS["vit3_small" if arguments.model == "ttt_heads" else arguments.model][:2]
    size = arguments.image_size or size
    if size % patch or size < patch:
        sys.exit(f"--image-size has to be a multiple of {patch}, not {size}")
    on_gpu = prepare(arguments, 0)
    step = make_heads_step(arguments, size) if arguments.model == "ttt_heads" else make_model_step(arguments, size)
    times = [time.perf_counter()]
    for _ in range(2 + arguments.repeat):
        step()
        if on_gpu:
            torch.cuda.synchronize(arguments.device)
        times.append(time.perf_counter())
    timed = [arguments.batch / (end - start) for start, end in zip(times[2:], times[3:])]
    return {"model": arguments.model, "mode": arguments.mode, "batch": arguments.batch, "image_size": size,
            "threads": arguments.threads, "dtype": arguments.dtype, "compiled": arguments.compile is not None, "attention": arguments.attention,
            "device": torch.cuda.get_device_name(arguments.device) if on_gpu else "cpu",
            "peak_device_mib": round(torch.cuda.max_memory_allocated(arguments.device) / 2**20, 1) if on_gpu else 0,
            "images_per_second": round(statistics.median(timed), 3),
            "spread": [round(min(timed), 3), round(max(timed), 3)],
            "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "torch": torch.__version__, "blas": blas_in_use()}


def serve():
    """One JSON object for every line of arguments, {"error": ...} where that fails: PyTorch is loaded once."""
    for line in sys.stdin:
        try:
            arguments = parse_arguments(line.split())
            if arguments.device != "cpu":
                gc.collect()
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(arguments.device)
            if arguments.compile and hasattr(torch, "_dynamo"):
                torch._dynamo.reset()
            answer = measure(arguments)
        except (Exception, SystemExit) as error:
            answer = {"error": str(error)[-500:]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    if ARGUMENTS.serve:
        sys.exit(serve())
    if ARGUMENTS.check:
        sys.exit(0 if all([check(path) for path in ARGUMENTS.check]) else 1)
    result = measure(ARGUMENTS)
    text = "{model} {mode}, {dtype}, batch {batch}, {device}, {threads} threads: {images_per_second} img/s, {peak_rss_mib} MiB"
    print(json.dumps(result) if ARGUMENTS.json else text.format(**result))
