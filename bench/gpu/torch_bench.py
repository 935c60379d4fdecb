"""Times the same network in PyTorch on the same card: one line of JSON per measurement.

usage: torch_bench.py <edge> <batch for training> <repeats>

Modes: eager, channels_last_3d, both with autocast to bf16 or fp16, and torch.compile of them; f32 without and with TF32.
A mode that fails (out of memory, no compiler) prints its reason instead of a time.
"""

import json
import statistics
import sys
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


def measure(body, repeats):
    for _ in range(3):
        body()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        body()
        torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times), min(times)


def bench(what, precision, layout, compiled, edge, batch, repeats):
    torch.manual_seed(1)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision != "f32"
    memory_format = torch.channels_last_3d if layout == "channels_last_3d" else torch.contiguous_format
    network = MfRes2Net().cuda().to(memory_format=memory_format)
    image = torch.randn(batch, 4, edge, edge, edge, device="cuda").contiguous(memory_format=memory_format)
    classes = torch.randint(4, (batch, edge, edge, edge), device="cuda")
    short = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    run = torch.compile(network) if compiled else network

    def logits():
        with torch.autocast("cuda", dtype=short or torch.bfloat16, enabled=short is not None):
            return run(image)

    if what == "inference":
        network.eval()

        def body():
            with torch.inference_mode():
                return logits()
    else:
        network.train()
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-5, fused=True)
        scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16")

        def body():
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(weighted_tversky(logits(), classes)).backward()
            scaler.step(optimiser)
            scaler.update()

    median, least = measure(body, repeats)
    return {"median_ms": round(median, 3), "least_ms": round(least, 3),
            "peak_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1)}


def main():
    edge, training_batch, repeats = (int(text) for text in sys.argv[1:4])
    parameters = sum(p.numel() for p in MfRes2Net().parameters())
    print(json.dumps({"engine": "torch", "version": torch.__version__, "cudnn": torch.backends.cudnn.version(),
                      "device": torch.cuda.get_device_name(), "parameters": parameters}), flush=True)
    for what, batch in (("inference", 1), ("training", training_batch)):
        for precision in ("f32", "tf32", "bf16", "fp16"):
            for layout in ("contiguous", "channels_last_3d"):
                for compiled in (False, True):
                    line = {"engine": "torch", "what": what, "precision": precision, "edge": edge, "batch": batch,
                            "mode": layout + (" compiled" if compiled else " eager")}
                    try:
                        line.update(bench(what, precision, layout, compiled, edge, batch, repeats))
                    except Exception as error:  # noqa: BLE001 - a mode that fails must not end the others
                        line["failed"] = f"{type(error).__name__}: {error}"[:300]
                    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
