# SPDX-License-Identifier: MIT
"""Volumes in memory to labels and probabilities in memory, with progress.

    python segment.py MODEL T1.nii T1CE.nii T2.nii FLAIR.nii LABELS.raw

MODEL is a model file or the name of weights that come with mfres. LABELS.raw gets one byte a voxel, x fastest.
"""

import sys

import mfres
import numpy as np


def read_nifti(path):
    """Voxels and affine of an uncompressed little-endian NIfTI-1 file; nibabel.load does so for all others."""
    with open(path, "rb") as file:
        header = file.read(348)
        size = np.frombuffer(header, "<i2", 8, 40)[1:4]
        types = {2: "<u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 512: "<u2"}
        stored = types[int(np.frombuffer(header, "<i2", 1, 70)[0])]
        offset, slope, intercept = np.frombuffer(header, "<f4", 3, 108)
        file.seek(int(offset))
        voxels = np.fromfile(file, stored, int(np.prod(size, dtype=np.int64))).reshape(size, order="F")
    if slope not in (0.0, 1.0) or intercept != 0.0:
        voxels = voxels * float(slope) + float(intercept)
    affine = np.eye(4)
    affine[:3] = np.frombuffer(header, "<f4", 12, 280).reshape(3, 4)
    return voxels, affine


def main(model, t1, t1ce, t2, flair, labels):
    def progress(stage, done):
        print(f"\r{stage:<12} {100 * done:3.0f} %", end="", file=sys.stderr)

    with mfres.Predictor(model, threads=2) as predictor:
        volumes = [read_nifti(path) for path in (t1, t1ce, t2, flair)]
        found = predictor.segment(*volumes, probabilities=True, progress=progress)
    print(file=sys.stderr)
    for region, millilitres in found.regions_ml.items():
        print(f"{region}: {millilitres:.2f} ml")
    print(f"highest probability of enhancing tumour: {found.probabilities[3].max():.3f}")
    found.labels.ravel(order="F").tofile(labels)


if __name__ == "__main__":
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    main(*sys.argv[1:])
