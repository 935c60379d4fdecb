# SPDX-License-Identifier: MIT
"""Times the same network in PyTorch on the same card: one line of JSON per measurement.

    torch_bench.py f32|tf32|bf16|fp16 [--what inference,training] [--edge 128] [--batch 2] [--repeats 20]
                   [--modes NAME,...] [--seconds N] [--device cuda|cpu]

Inference has batch 1. `resident_ms` is with the input on the device, `median_ms` with its upload from page-locked memory.
Modes: eager; channels_last_3d eager; channels_last_3d and torch.compile of network and loss (default, reduce-overhead,
max-autotune); a CUDA graph of the whole step, eager and compiled. The fastest as a rule come first; after --seconds no other
is begun. A mode that fails (out of memory, no compiler) prints its reason instead of a time.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn


class Layer(nn.Module):
    """Convolution without bias, batch normalisation and, unless it ends a branch, ReLU."""

    def __init__(self, wide_in, wide_out, kernel=1, stride=1, relu=True):
        super().__init__()
        kernel = (kernel,) * 3 if isinstance(kernel, int) else kernel
        padding = tuple(k // 2 for k in kernel)
        self.conv = nn.Conv3d(wide_in, wide_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm3d(wide_out)
        self.relu = relu

    def forward(self, x):
        x = self.bn(self.conv(x))
        return F.relu(x, inplace=True) if self.relu else x


class Unit(nn.Module):
    """Multiplexed fibres, then four scales inside one layer, around a shortcut."""

    def __init__(self, wide_in, width):
        super().__init__()
        self.mf1 = Layer(wide_in, wide_in // 4)
        self.mf2 = Layer(wide_in // 4, wide_in)
        self.inner = Layer(wide_in, width)
        self.scales = nn.ModuleList(Layer(width // 4, width // 4, (3, 3, 1)) for _ in range(3))
        self.fuse1 = Layer(width, width)
        self.fuse2 = Layer(width, width, (1, 3, 3), relu=False)
        self.shortcut = nn.Identity() if wide_in == width else Layer(wide_in, width, relu=False)

    def forward(self, x):
        parts = list(torch.chunk(self.inner(self.mf2(self.mf1(x))), 4, dim=1))
        for i in range(1, 4):
            parts[i] = self.scales[i - 1](parts[i] if i == 1 else parts[i] + parts[i - 1])
        return F.relu(self.fuse2(self.fuse1(torch.cat(parts, dim=1))) + self.shortcut(x))


class MfRes2Net(nn.Module):
    def __init__(self, widths=(16, 64, 112, 240), decoder=(80, 32, 16, 8)):
        super().__init__()
        self.down, self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = 4
        for width in widths:
            self.down.append(Layer(before, width, 3, 2))
            self.encoder.append(nn.Sequential(Unit(width, width), Unit(width, width)))
            before = width
        for width, skip in zip(decoder, list(widths[-2::-1]) + [0]):
            self.decoder.append(Unit(before + skip, width))
            before = width
        self.head = nn.Conv3d(before, 4, 1, bias=False)

    def forward(self, x):
        skips = []
        for down, units in zip(self.down, self.encoder):
            x = units(down(x))
            skips.append(x)
        skips.pop()
        for unit in self.decoder:
            x = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
            if skips:
                x = torch.cat([x, skips.pop()], dim=1)
            x = unit(x)
        return self.head(x)


def weighted_tversky(logits, classes):
    p = torch.softmax(logits.float(), dim=1)
    g = F.one_hot(classes, 4).permute(0, 4, 1, 2, 3).to(p.dtype)
    axes = (0, 2, 3, 4)
    hit, truth = (p * g).sum(axes), g.sum(axes)
    priced = hit + 0.3 * (p.sum(axes) - hit) + 0.7 * (truth - hit)
    weight = torch.where(truth > 0, 1 / (truth**2 + 1e-4), torch.zeros_like(truth))
    return 1 - (weight * hit).sum() / (weight * priced).sum()


# layout, mode of torch.compile or None, whether the whole step is a CUDA graph
MODES = {
    "compiled graph": ("channels_last_3d", "default", True),
    "max-autotune": ("channels_last_3d", "max-autotune", False),
    "graph": ("channels_last_3d", None, True),
    "reduce-overhead": ("channels_last_3d", "reduce-overhead", False),
    "compiled": ("channels_last_3d", "default", False),
    "channels_last": ("channels_last_3d", None, False),
    "eager": ("contiguous", None, False),
}


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def measure(body, repeats, device):
    for _ in range(3):
        body()
    times = []
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        body()
        wait(device)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times), min(times)


def step_of(what, precision, compiled, graph, network, image, classes):
    """A function that does one inference or one training step on `image` and `classes`."""
    device = image.device.type
    short = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)

    def logits():
        with torch.autocast(device, dtype=short or torch.bfloat16, enabled=short is not None):
            return network(image)

    def loss():
        return weighted_tversky(logits(), classes)

    forward = logits if what == "inference" else loss
    if compiled:
        forward = torch.compile(forward, mode=None if compiled == "default" else compiled)
    if what == "inference":
        network.eval()

        def body():
            with torch.inference_mode():
                return forward()

        return body
    network.train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-5, fused=device == "cuda", capturable=graph)
    scaler = torch.amp.GradScaler(device) if precision == "fp16" else None

    def body():
        optimiser.zero_grad(set_to_none=not graph)
        if scaler is None:
            forward().backward()
            optimiser.step()
        else:
            scaler.scale(forward()).backward()
            scaler.step(optimiser)
            scaler.update()

    return body


def recorded(body):
    """The CUDA graph of a body that has run before on a stream of its own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            body()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        body()
    return graph.replay


def bench(what, precision, mode, edge, batch, repeats, device):
    layout, compiled, graph = MODES[mode]
    if graph and precision == "fp16" and what == "training":
        raise ValueError("steps of fp16 are skipped by a decision on the host, which no graph holds")
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision != "f32"
    memory_format = torch.channels_last_3d if layout == "channels_last_3d" else torch.contiguous_format
    network = MfRes2Net().to(device).to(memory_format=memory_format)
    image = torch.randn(batch, 4, edge, edge, edge, device=device).contiguous(memory_format=memory_format)
    classes = torch.randint(4, (batch, edge, edge, edge), device=device)
    on_host = [tensor.cpu().pin_memory() if device == "cuda" else tensor.clone() for tensor in (image, classes.to(torch.uint8))]
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    body = step_of(what, precision, compiled, graph, network, image, classes)
    if graph:
        body = recorded(body)

    def with_upload():
        image.copy_(on_host[0], non_blocking=True)
        if what == "training":
            classes.copy_(on_host[1], non_blocking=True)
        return body()

    resident, _ = measure(body, repeats, device)
    median, least = measure(with_upload, repeats, device)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return {"median_ms": round(median, 3), "least_ms": round(least, 3), "resident_ms": round(resident, 3),
            "peak_mib": round(peak / 2**20, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("precision", choices=("f32", "tf32", "bf16", "fp16"))
    parser.add_argument("--what", default="inference,training")
    parser.add_argument("--edge", type=int, default=128)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    given = parser.parse_args()
    end = time.monotonic() + given.seconds
    parameters = sum(p.numel() for p in MfRes2Net().parameters())
    name = torch.cuda.get_device_name() if given.device == "cuda" else "cpu"
    print(json.dumps({"engine": "torch", "version": torch.__version__, "cudnn": torch.backends.cudnn.version(),
                      "device": name, "parameters": parameters}), flush=True)
    for mode in given.modes.split(","):
        for what in given.what.split(","):
            batch = 1 if what == "inference" else given.batch
            line = {"engine": "torch", "what": what, "precision": given.precision, "edge": given.edge, "batch": batch,
                    "mode": mode}
            if time.monotonic() > end:
                line["failed"] = f"not begun within {given.seconds:g} s"
            else:
                try:
                    line.update(bench(what, given.precision, mode, given.edge, batch, given.repeats, given.device))
                except Exception as error:  # noqa: BLE001 - a mode that fails must not end the others
                    line["failed"] = f"{type(error).__name__}: {error}"[:300]
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
