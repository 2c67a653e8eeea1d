#!/usr/bin/env python3
"""The peer of examples/train_classifier: the same training on CIFAR-10's binary files, with the model of torch_vit3.py.

  torch_train.py --data cifar-10-batches-bin --epochs 20 --threads 2 --out runs/torch
  torch_train.py --data cifar-10-batches-bin --epochs 20 --device cuda:0 --dtype bf16 --compile --out runs/torch

Options have the names and defaults that train_classifier gives them. All images lie on the device as bytes; a batch is gathered,
cropped, flipped and normalised there in a few calls, and nothing waits for a GPU between the steps of an epoch. Writes OUT/metrics.jsonl
as train_classifier does, and neither weights nor a state. --compile compiles what trains; evaluation runs eagerly, since compiling
it too takes longer than it saves in so short a training.
"""

import argparse
import json
import math
import os
import sys
import time

import torch_vit3 as vit3  # before torch: it says how many threads the libraries get
import numpy as np
import torch
import torch.nn.functional as F

MEAN, STDDEV = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10's full training set
SIDE, EVALUATION_BATCH = 32, 100


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter, parents=[vit3.computing_options()])
    parser.add_argument("--data", required=True, help="folder of CIFAR-10 binary files")
    parser.add_argument("--model", choices=[name for name, sizes in vit3.MODELS.items() if sizes[0] == SIDE], default="vit3_nano")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--warmup-epochs", type=float, default=2)
    parser.add_argument("--label-smoothing", type=float, default=0.1)
    parser.add_argument("--clip-grad", type=float, default=5)
    parser.add_argument("--no-augment", action="store_true", help="no random crops and flips")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", help="safetensors to start from, e.g. of train_classifier")
    parser.add_argument("--out", required=True, help="output folder")
    return parser.parse_args()


class Images:
    """One split on a device: bytes with a black border, and labels."""

    def __init__(self, folder, files, border, device):
        records = [np.fromfile(os.path.join(folder, name), np.uint8).reshape(-1, 1 + 3 * SIDE * SIDE) for name in files]
        records = torch.from_numpy(np.concatenate(records)).to(device, non_blocking=True)
        pixels = records[:, 1:].reshape(-1, 3, SIDE, SIDE).permute(0, 2, 3, 1)  # [n, 32, 32, 3]
        self.pixels = F.pad(pixels, (0, 0, border, border, border, border)).contiguous()  # [n, 32 + 2 border, 32 + 2 border, 3]
        self.labels, self.border = records[:, 0].long(), border
        self.mean, self.stddev = (255 * torch.tensor(values, device=device) for values in (MEAN, STDDEV))
        self.along = torch.arange(SIDE, device=device)

    def __len__(self):
        return len(self.labels)

    def batch(self, indices, augment):
        """[B, 3, 32, 32] and [B]: of every image its own window, mirrored or not, or the window in the middle."""
        device, count = self.pixels.device, len(indices)
        y = x = torch.full((count, 1), self.border, device=device)
        columns = self.along[None]
        if augment:
            y, x = torch.randint(2 * self.border + 1, (2, count, 1), device=device)
            columns = torch.where(torch.rand(count, 1, device=device) < 0.5, SIDE - 1 - self.along, self.along)  # [B, 32]
        images = self.pixels[indices[:, None, None], (y + self.along)[:, :, None], (x + columns)[:, None, :]]  # [B, 32, 32, 3]
        return ((images - self.mean) / self.stddev).permute(0, 3, 1, 2), self.labels[indices]


def learning_rate(step, total, warmup, peak):
    """A cosine to 0 per step, times a linear ramp over the warm-up."""
    cosine = 0.5 * peak * (1 + math.cos(math.pi * step / total))
    return cosine * (step + 1) / warmup if step < warmup else cosine


@torch.inference_mode()
def evaluate(model, images, arguments):
    """Mean loss and share of right answers; a GPU is waited for once."""
    model.eval()
    found = torch.zeros(2, dtype=torch.float64, device=images.pixels.device)  # loss and right answers, summed
    for indices in torch.arange(len(images), device=images.pixels.device).split(EVALUATION_BATCH):
        batch, labels = images.batch(indices, augment=False)
        with vit3.precision(arguments):
            logits = model(batch)  # [B, classes]
        found += torch.stack((F.cross_entropy(logits.float(), labels, reduction="sum"), (logits.argmax(dim=1) == labels).sum()))
    model.train()
    return [value / len(images) for value in found.tolist()]


def train(arguments):
    vit3.prepare(arguments, arguments.seed)
    os.makedirs(arguments.out, exist_ok=True)
    training_files = [f"data_batch_{i}.bin" for i in range(1, 6)]
    images = Images(arguments.data, training_files, 0 if arguments.no_augment else 4, arguments.device)
    test = Images(arguments.data, ["test_batch.bin"], 0, arguments.device)
    model = vit3.make_model(arguments.model, SIDE)
    if arguments.weights:
        model.load_state_dict(vit3.read_safetensors(arguments.weights, "F32")[1])
    model.to(arguments.device)
    training = vit3.Training(model, arguments, arguments.lr, arguments.weight_decay, arguments.label_smoothing, arguments.clip_grad)
    batches = len(images) // arguments.batch_size  # the last, incomplete one is left out
    if batches == 0:
        sys.exit(f"{len(images)} images make no batch of {arguments.batch_size}")
    total, warmup = arguments.epochs * batches, int(arguments.warmup_epochs * batches)
    step, history = 0, []
    for epoch in range(1, arguments.epochs + 1):
        start, loss_sum = time.perf_counter(), torch.zeros((), device=arguments.device)
        order = torch.randperm(len(images), device=arguments.device)
        for indices in order[:batches * arguments.batch_size].split(arguments.batch_size):
            rate = learning_rate(step, total, warmup, arguments.lr)
            for group in training.optimizer.param_groups:
                group["lr"] = rate
            loss_sum += training.step(*images.batch(indices, augment=not arguments.no_augment))
            step += 1
            if step == 1:
                print(f"first step done, loss {loss_sum.item():.4f}", flush=True)
        train_loss = loss_sum.item() / batches
        seconds = time.perf_counter() - start
        if not math.isfinite(train_loss):
            sys.exit(f"the loss is not finite in epoch {epoch}")
        test_loss, top1 = evaluate(model, test, arguments)
        rate_of_images = batches * arguments.batch_size / seconds
        history.append({"epoch": epoch, "train_loss": train_loss, "test_loss": test_loss, "test_top1": top1,
                        "images_per_second": rate_of_images, "lr": rate, "seconds": seconds})
        with open(os.path.join(arguments.out, "metrics.jsonl"), "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in history)
        print(f"epoch {epoch}/{arguments.epochs}  train loss {train_loss:.4f}  test loss {test_loss:.4f}  test top-1 {top1:.4f}  "
              f"{rate_of_images:.0f} images/s  lr {rate:.2e}", flush=True)


if __name__ == "__main__":
    train(parse_arguments())
