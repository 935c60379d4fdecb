# SPDX-License-Identifier: MIT
"""What other counters say about single layers, beside mfres; see bench/complexity/run."""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import warnings

import torch
from torch import nn

from public_networks import by_calflops, by_fvcore, by_ptflops, by_thop, export, table, tried

warnings.filterwarnings("ignore")


class Call(nn.Module):
    """A function as a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


MAP, ROWS = (1, 8, 16, 16), (1, 16, 32)
LAYERS = {
    "convolution 3x3, 8 to 16, bias": (nn.Conv2d(8, 16, 3, padding=1), MAP),
    "the same without bias": (nn.Conv2d(8, 16, 3, padding=1, bias=False), MAP),
    "the same, 4 groups": (nn.Conv2d(8, 16, 3, padding=1, groups=4, bias=False), MAP),
    "transposed convolution 2x2 stride 2": (nn.ConvTranspose2d(8, 16, 2, stride=2, bias=False), MAP),
    "linear 32 to 64, bias": (nn.Linear(32, 64), ROWS),
    "product of two activations": (Call(lambda x: x @ x.transpose(1, 2)), ROWS),
    "BatchNorm": (nn.BatchNorm2d(8), MAP),
    "InstanceNorm, affine": (nn.InstanceNorm2d(8, affine=True), MAP),
    "LayerNorm": (nn.LayerNorm(32), ROWS),
    "ReLU": (nn.ReLU(), MAP),
    "LeakyReLU": (nn.LeakyReLU(), MAP),
    "GELU": (nn.GELU(), MAP),
    "MaxPool 2x2": (nn.MaxPool2d(2), MAP),
    "AvgPool 2x2": (nn.AvgPool2d(2), MAP),
    "adaptive average pooling to 1": (nn.AdaptiveAvgPool2d(1), MAP),
    "bilinear upsampling by 2": (nn.Upsample(scale_factor=2, mode="bilinear"), MAP),
    "softmax": (nn.Softmax(1), MAP),
    "sum of two activations": (Call(lambda x: x + x), MAP),
}


def by_opencv(path, shape):
    import cv2
    network = cv2.dnn.readNetFromONNX(path)
    return {"flops": network.getFLOPS(list(shape))}


def apart(function, *arguments):
    """What the tool says, in a process of its own: ptflops and calflops leave torch's functions replaced."""
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=lambda: results.put(tried(function, *arguments)))
    process.start()
    result = results.get()
    process.join()
    return result


def number(result, *keys):
    if "error" in result:
        print(result["error"], file=sys.stderr)
        return "error"
    return " / ".join(f"{result[key]:,}" for key in keys)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="build/dev/bin/mfres")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (layer, shape) in LAYERS.items():
            model = nn.Sequential(layer).eval()  # ptflops counts the parts of a network
            model.register_parameter("unused", nn.Parameter(torch.zeros(1)))  # calflops looks for one
            path = os.path.join(folder, "layer.onnx")
            export(model, torch.zeros(shape), path)
            run = subprocess.run([arguments.program, "complexity", path, "--json"], capture_output=True, text=True)
            ours = json.loads(run.stdout)
            fvcore = apart(by_fvcore, model, torch.zeros(shape))
            rows.append([name, f"{ours['macs']:,}", f"{ours['table2_flops']:,}", f"{ours['eq13_flops']:,}",
                         "error" if "error" in fvcore else f"{sum(fvcore.values()):,}",
                         number(apart(by_ptflops, model, shape), "macs"),
                         number(apart(by_thop, model, torch.zeros(shape)), "macs"),
                         number(apart(by_calflops, model, shape), "macs", "flops"),
                         number(apart(by_opencv, path, shape), "flops")])
    print(table(["layer", "mfres MACs", "mfres Table 2", "mfres eq. 13", "fvcore", "ptflops MACs", "thop MACs",
                 "calflops MACs / FLOPs", "OpenCV getFLOPS"], rows))


if __name__ == "__main__":
    sys.exit(main())
