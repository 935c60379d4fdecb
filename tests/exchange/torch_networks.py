# SPDX-License-Identifier: MIT
"""Networks of the registry as PyTorch modules, written from their descriptions, and what PyTorch saves of them.

usage: torch_networks.py <mf-res2net|dmfnet|3d-unet|attention> <folder> [<x> <y> <z>]

Writes into the folder: state.pth (a state_dict), nested.pth (a training checkpoint with "module." in front of every
name), state.safetensors, folded.onnx and plain.onnx (BatchNorms folded by the exporter, or kept), default.onnx (what this
version of PyTorch exports unless it is told otherwise: since 2.9 traced by dynamo, with the weights in a file beside), and
tensors.safetensors with "input" and "output" (logits in evaluation mode).
"""

import inspect

import os
import sys

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train"))
import exchange  # noqa: E402


class ConvNormAct(nn.Module):
    def __init__(self, inputs, outputs, kernel=1, stride=1, padding=0, act=True):
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm3d(outputs)
        self.act = act

    def forward(self, x):
        x = self.bn(self.conv(x))
        return torch.relu(x) if self.act else x


class Res2Unit(nn.Module):
    first = "in"  # name of the first convolution

    def __init__(self, inputs, outputs, reduction):
        super().__init__()
        part = outputs // 4
        self.mf1 = ConvNormAct(inputs, inputs // reduction)
        self.mf2 = ConvNormAct(inputs // reduction, inputs)
        setattr(self, self.first, ConvNormAct(inputs, outputs))
        self.k2 = ConvNormAct(part, part, (3, 3, 1), 1, (1, 1, 0))
        self.k3 = ConvNormAct(part, part, (3, 3, 1), 1, (1, 1, 0))
        self.k4 = ConvNormAct(part, part, (3, 3, 1), 1, (1, 1, 0))
        self.fuse1 = ConvNormAct(outputs, outputs)
        self.fuse2 = ConvNormAct(outputs, outputs, (1, 3, 3), 1, (0, 1, 1), act=False)
        self.shortcut = ConvNormAct(inputs, outputs, act=False) if inputs != outputs else None

    def forward(self, x):
        y = getattr(self, self.first)(self.mf2(self.mf1(x)))
        x1, x2, x3, x4 = torch.chunk(y, 4, 1)
        y2 = self.k2(x2)
        y3 = self.k3(x3 + y2)
        y4 = self.k4(x4 + y3)
        y = self.fuse2(self.fuse1(torch.cat([x1, y2, y3, y4], 1)))
        return torch.relu((x if self.shortcut is None else self.shortcut(x)) + y)


class EncoderLevel(nn.Module):
    def __init__(self, inputs, outputs, reduction):
        super().__init__()
        self.down = ConvNormAct(inputs, outputs, 3, 2, 1)
        self.unit1 = Res2Unit(outputs, outputs, reduction)
        self.unit2 = Res2Unit(outputs, outputs, reduction)

    def forward(self, x):
        return self.unit2(self.unit1(self.down(x)))


class DecoderLevel(nn.Module):
    def __init__(self, inputs, outputs, reduction):
        super().__init__()
        self.unit = Res2Unit(inputs, outputs, reduction)

    def forward(self, x):
        return self.unit(x)


class Head(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.conv = nn.Conv3d(inputs, classes, 1, bias=False)

    def forward(self, x):
        return self.conv(x)


class MfRes2Net(nn.Module):
    def __init__(self, widths=(8, 16, 24, 32), decoder=(16, 8, 8, 4), reduction=4):
        super().__init__()
        inputs = 4
        for level, width in enumerate(widths):
            setattr(self, f"enc{level + 1}", EncoderLevel(inputs, width, reduction))
            inputs = width
        for level, width in enumerate(decoder):
            skip = widths[len(widths) - 2 - level] if level < len(widths) - 1 else 0
            setattr(self, f"dec{level + 1}", DecoderLevel(inputs + skip, width, reduction))
            inputs = width
        self.head = Head(inputs, 4)
        self.levels = len(widths)

    def forward(self, x):
        maps = []
        for level in range(self.levels):
            x = getattr(self, f"enc{level + 1}")(x)
            maps.append(x)
        maps.pop()
        for level in range(self.levels):
            x = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
            if maps:
                x = torch.cat([x, maps.pop()], 1)
            x = getattr(self, f"dec{level + 1}")(x)
        return self.head(x)


class NormActConv(nn.Module):
    def __init__(self, inputs, outputs, kernel=1, stride=1, padding=0, groups=1, dilation=1):
        super().__init__()
        self.bn = nn.BatchNorm3d(inputs)
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)

    def forward(self, x):
        return self.conv(torch.relu(self.bn(x)))


class FibreUnit(nn.Module):
    """DMFNet's unit; with `dilated`, three weighted branches in place of one convolution."""

    def __init__(self, inputs, outputs, groups, stride=1, dilated=False):
        super().__init__()
        middle = min(inputs, outputs)
        self.conv1x1x1_in1 = NormActConv(inputs, inputs // 4)
        self.conv1x1x1_in2 = NormActConv(inputs // 4, middle)
        self.dilated = dilated
        if dilated:
            self.conv3x3x3_m1 = nn.ModuleList(
                NormActConv(middle, outputs, 3, stride, d, groups, d) for d in (1, 2, 3)
            )
            for i in (1, 2, 3):
                setattr(self, f"weight{i}", nn.Parameter(torch.rand(1) + 0.5))
        else:
            self.conv3x3x3_m1 = NormActConv(middle, outputs, 3, stride, 1, groups)
        self.conv3x3x3_m2 = NormActConv(outputs, outputs, (3, 3, 1), 1, (1, 1, 0), groups)
        if stride == 2:
            self.conv2x2x2_shortcut = NormActConv(inputs, outputs, 2, 2)
        elif inputs != outputs:
            self.conv1x1x1_shortcut = NormActConv(inputs, outputs)

    def forward(self, x):
        y = self.conv1x1x1_in2(self.conv1x1x1_in1(x))
        if self.dilated:
            a, b, c = [branch(y) for branch in self.conv3x3x3_m1]
            y = self.weight1 * a + self.weight2 * b + self.weight3 * c
        else:
            y = self.conv3x3x3_m1(y)
        y = self.conv3x3x3_m2(y)
        for name in ("conv2x2x2_shortcut", "conv1x1x1_shortcut"):
            if hasattr(self, name):
                return y + getattr(self, name)(x)
        return y + x


class DmfNet(nn.Module):
    def __init__(self, n=8, c=16, groups=4):
        super().__init__()

        def level(inputs, width, last, dilated):
            units = [FibreUnit(inputs, width, groups, 2, dilated), FibreUnit(width, width, groups, 1, dilated)]
            return nn.Sequential(*units, FibreUnit(width, last, groups, 1, dilated))

        self.encoder_block1 = nn.Conv3d(4, n, 3, 2, 1, bias=False)
        self.encoder_block2 = level(n, c, c, True)
        self.encoder_block3 = level(c, 2 * c, 2 * c, True)
        self.encoder_block4 = level(2 * c, 3 * c, 2 * c, False)
        self.decoder_block1 = FibreUnit(4 * c, 2 * c, groups)
        self.decoder_block2 = FibreUnit(3 * c, c, groups)
        self.decoder_block3 = FibreUnit(c + n, n, groups)
        self.seg = nn.Conv3d(n, 4, 1, bias=False)
        self.up = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False)

    def forward(self, x):
        x1 = self.encoder_block1(x)
        x2 = self.encoder_block2(x1)
        x3 = self.encoder_block3(x2)
        x4 = self.encoder_block4(x3)
        y = self.decoder_block1(torch.cat([x3, self.up(x4)], 1))
        y = self.decoder_block2(torch.cat([x2, self.up(y)], 1))
        y = self.decoder_block3(torch.cat([x1, self.up(y)], 1))
        return self.seg(self.up(y))


class ConvNormRelu(nn.Sequential):
    def __init__(self, inputs, outputs):
        super().__init__(nn.Conv3d(inputs, outputs, 3, padding=1), nn.BatchNorm3d(outputs), nn.ReLU())


class UNet(nn.Module):
    """The 3D U-Net with transposed convolutions in place of interpolations."""

    def __init__(self, widths=(8, 16, 24), decoder_convs=(1, 2)):
        super().__init__()
        self.encoder, self.up, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        inputs = 4
        for width in widths:
            self.encoder.append(nn.Sequential(ConvNormRelu(inputs, width // 2), ConvNormRelu(width // 2, width)))
            inputs = width
        for level in reversed(range(len(widths) - 1)):
            width, deeper = widths[level], widths[level + 1]
            self.up.append(nn.ConvTranspose3d(deeper, deeper, 2, 2))
            convs = [ConvNormRelu(width + deeper if i == 0 else width, width) for i in range(decoder_convs[level])]
            self.decoder.append(nn.Sequential(*convs))
        self.head = nn.Conv3d(widths[0], 4, 1)

    def forward(self, x):
        skips = []
        for level, encode in enumerate(self.encoder):
            x = encode(F.max_pool3d(x, 2) if level > 0 else x)
            skips.append(x)
        skips.pop()
        for up, decode in zip(self.up, self.decoder):
            x = decode(torch.cat([skips.pop(), up(x)], 1))
        return self.head(x)


class Attention(nn.Module):
    """No network of the registry: every operation that only imported networks have, in several forms each."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv3d(4, 12, 3, 2, 1)
        self.norm = nn.GroupNorm(3, 12)
        self.plain_norm = nn.GroupNorm(4, 12, affine=False)
        self.slopes = nn.PReLU(12)
        self.slope = nn.PReLU()
        self.gate = nn.Conv3d(12, 1, 1)
        self.squeeze = nn.Conv3d(12, 3, 1)
        self.excite = nn.Conv3d(3, 12, 1)
        self.up = nn.ConvTranspose3d(12, 6, 3, 2, 1, output_padding=1, groups=3)
        self.up_overlapping = nn.ConvTranspose3d(12, 6, 4, 2, 1, bias=False)
        self.head = nn.Conv3d(6, 4, 1)

    def forward(self, x):
        x = self.slopes(self.norm(self.stem(x)))
        x = torch.sigmoid(self.gate(x)) * x
        scale = self.excite(F.elu(self.squeeze(F.adaptive_avg_pool3d(x, 1)), 0.5))
        x = x * torch.sigmoid(scale)
        x = self.slope(self.plain_norm(x)) + x
        return self.head(self.up(x) * self.up_overlapping(x))


def randomise(model):
    """Statistics, scales and shifts away from what they start at, so that every one of them matters."""
    for module in model.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.5, 0.5)
        if isinstance(module, nn.GroupNorm) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)


def main():
    network, folder = sys.argv[1:3]  # and the input's extent
    torch.set_num_threads(1)
    torch.manual_seed(7)
    model = {"mf-res2net": MfRes2Net, "dmfnet": DmfNet, "3d-unet": UNet, "attention": Attention}[network]()
    with torch.no_grad():
        randomise(model)
        model.eval()
        image = torch.randn(1, 4, *(map(int, sys.argv[5:2:-1]) if len(sys.argv) > 3 else (16, 32, 48)))
        output = model(image)
    state = model.state_dict()
    torch.save(state, f"{folder}/state.pth")
    wrapped = {"module." + name: value for name, value in state.items()}
    torch.save({"epoch": 3, "lr": 0.5, "names": ["a", None, True], "state_dict": wrapped}, f"{folder}/nested.pth")
    floats = {name: value.numpy() for name, value in state.items() if value.dtype == torch.float32}
    exchange.write_safetensors(f"{folder}/state.safetensors", floats)
    exchange.write_safetensors(f"{folder}/tensors.safetensors", {"input": image.numpy(), "output": output.numpy()})
    try:
        import onnx  # noqa: F401, what the exporter needs
    except ImportError:
        return
    by_script = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    # In evaluation mode the exporter folds BatchNorms, otherwise it keeps them.
    for name, mode in (("folded", torch.onnx.TrainingMode.EVAL), ("plain", torch.onnx.TrainingMode.PRESERVE)):
        torch.onnx.export(model, (image,), f"{folder}/{name}.onnx", opset_version=13, training=mode, **by_script)
    model.eval()
    # Dynamo writes the names of modules into Python code, where "in" is a keyword.
    for unit in [module for module in model.modules() if isinstance(module, Res2Unit)]:
        unit.input = getattr(unit, "in")
        delattr(unit, "in")
        unit.first = "input"
    torch.onnx.export(model, (image,), f"{folder}/default.onnx")


main()
