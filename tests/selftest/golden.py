#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Computes the table of lib/selftest/golden.cpp with PyTorch in double precision, and the bytes of its NIfTI file.

    golden.py ops      the rows of golden_ops()
    golden.py nifti    the bytes of the file
"""
import gzip
import struct
import sys


def values(shape, salt):
    """What golden_values of golden.h describes, as double of the f32."""
    import torch

    count = 1
    for extent in shape:
        count *= extent
    numbers = torch.tensor([(7919 * i + 104729 * salt) % 2003 for i in range(count)], dtype=torch.float64)
    return (numbers / 1001.5 - 1).to(torch.float32).to(torch.float64).reshape(shape)


def scale(shape, salt):
    import torch

    return (1 + values(shape, salt).to(torch.float32) / 2).to(torch.float64)


def ops():
    import torch
    import torch.nn.functional as F

    x = values((2, 4, 5, 6, 7), 0)

    def conv(out, kernel, bias=None, groups=1, **options):
        return F.conv3d(x, values((out, 4 // groups) + kernel, 1), bias, groups=groups, **options)

    def norm(function):
        return function(scale((4,), 1), values((4,), 2))

    batch = norm(lambda w, b: F.batch_norm(x, values((4,), 3), scale((4,), 4), w, b, eps=1e-5))
    instance = norm(lambda w, b: F.instance_norm(x, weight=w, bias=b, eps=1e-3))
    halves = [x[:, 1:3], x[:, 0:2]]
    rows = {
        "conv 3x3x3 with bias": conv(6, (3, 3, 3), values((6,), 2), padding=1),
        "conv 3x3x1, stride 2": conv(3, (3, 3, 1), padding=(1, 1, 0), stride=2),
        "conv 3x3x3, dilation 2, groups 2": conv(4, (3, 3, 3), padding=2, dilation=2, groups=2),
        "batch_norm": batch,
        "instance_norm": instance,
        "group_norm": norm(lambda w, b: F.group_norm(x, 2, w, b, eps=1e-3)),
        "conv_transpose": F.conv_transpose3d(
            x, values((4, 3, 3, 2, 2), 1), values((3,), 2), stride=2, padding=(1, 0, 0), output_padding=(1, 0, 0)
        ),
        "prelu": F.prelu(x, values((4,), 1)),
        "elu": F.elu(x, 0.5),
        "sigmoid and multiply": x * torch.sigmoid(x),
        "relu": F.relu(x),
        "leaky_relu": F.leaky_relu(x, 0.1),
        "add": x + F.relu(x),
        "scaled_add": values((1,), 1) * x + values((1,), 2) * F.relu(x),
        "slice and concat": torch.cat(halves, dim=1),
        "max_pool": F.max_pool3d(x, 2, 2),
        "adaptive_avg_pool": F.adaptive_avg_pool3d(x, (3, 4, 2)),
        "upsample nearest": F.interpolate(x, size=(7, 11, 9), mode="nearest"),
        "upsample trilinear": F.interpolate(x, size=(7, 11, 9), mode="trilinear", align_corners=False),
        "softmax": torch.softmax(x, dim=1),
    }
    for name, y in rows.items():
        flat = y.reshape(-1)
        shown = [flat[0], flat[len(flat) // 2], flat[-1], flat.mean(), (flat * flat).mean()]
        print('    {"%s", {%s}},' % (name, ", ".join("%.12g" % float(value) for value in shown)))


def nifti():
    """3 x 2 x 2 voxels, big-endian int16 with slope 0.5 and intercept -1, sform alone, gzip."""
    header = bytearray(348)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">8h", header, 40, 3, 3, 2, 2, 1, 1, 1, 1)
    struct.pack_into(">hh", header, 70, 4, 16)
    struct.pack_into(">8f", header, 76, 1, 2, 3, 4, 0, 0, 0, 0)
    struct.pack_into(">fff", header, 108, 352, 0.5, -1)
    header[123] = 2
    struct.pack_into(">hh", header, 252, 0, 1)
    struct.pack_into(">12f", header, 280, -2, 0, 0, 10, 0, -3, 0, 20, 0, 0, 4, -30)
    header[344:348] = b"n+1\0"
    voxels = struct.pack(">12h", *[100 * (i - 5) for i in range(12)])
    packed = gzip.compress(bytes(header) + bytes(4) + voxels, 9, mtime=0)
    for begin in range(0, len(packed), 24):
        print("    " + " ".join("0x%02X," % byte for byte in packed[begin : begin + 24]))


if __name__ == "__main__":
    {"ops": ops, "nifti": nifti}[sys.argv[1]]()
