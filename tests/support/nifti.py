# SPDX-License-Identifier: MIT
"""NIfTI-1 files as NumPy arrays, for the tests that change real cases."""
import gzip
import struct
import sys

import numpy as np

CONTRASTS = ("t1", "t1ce", "t2", "flair")
TYPES = {2: np.uint8, 4: np.int16, 8: np.int32, 16: np.float32, 64: np.float64, 512: np.uint16}


def read_nifti(path):
    """Header (348 bytes) and voxels [i, j, k] with the file's scale applied."""
    with (gzip.open if path.name.endswith(".gz") else open)(path, "rb") as file:
        data = file.read()
    dim = struct.unpack_from("<8h", data, 40)
    code, = struct.unpack_from("<h", data, 70)
    offset, slope, shift = struct.unpack_from("<3f", data, 108)
    voxels = np.frombuffer(data, TYPES[code], int(np.prod(dim[1:4])), int(offset)).reshape(dim[1:4], order="F")
    if slope not in (0.0, 1.0) or (slope != 0.0 and shift != 0.0):
        voxels = voxels * slope + shift
    return data[:348], voxels


def write_nifti(path, header, voxels, spacing=None, slope=1.0):
    """As float32, or as they are if they are bytes. The header keeps its place in the world; `spacing` scales it.
    `slope` is written as the file's scale; the voxels are stored as given."""
    header = bytearray(header)
    voxels = voxels if voxels.dtype == np.uint8 else voxels.astype(np.float32)
    struct.pack_into("<8h", header, 40, voxels.ndim, *voxels.shape, *[1] * (7 - voxels.ndim))
    struct.pack_into("<2h", header, 70, 2 if voxels.dtype == np.uint8 else 16, 8 * voxels.dtype.itemsize)
    struct.pack_into("<3f", header, 108, 352.0, slope, 0.0)
    if spacing:
        struct.pack_into("<3f", header, 80, *[spacing] * 3)
        for row in range(3):
            values = np.array(struct.unpack_from("<3f", header, 280 + 16 * row)) * spacing
            struct.pack_into("<3f", header, 280 + 16 * row, *values)
    path.write_bytes(bytes(header) + bytes(4) + voxels.tobytes(order="F"))


def case_files(case):
    """The files of a segmented BraTS case: its contrasts and "seg", by name. Ends the program if one is missing."""
    files = {}
    for name in (*CONTRASTS, "seg"):
        found = [path for path in case.iterdir() if path.name.split(".")[0].endswith(f"_{name}")]
        if not found:
            sys.exit(f"{case} has no file of {name}")
        files[name] = found[0]
    return files
