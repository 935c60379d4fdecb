# SPDX-License-Identifier: MIT
"""Segments a case with ONNX Runtime by what an ONNX file of mfres says about itself, and compares with mfres.

usage: segment_onnx.py MODEL CASE LABELS

MODEL: an ONNX file with dynamic axes. CASE: folder of <id>_t1.nii.gz and so on. LABELS: what mfres segment wrote. Nothing
of mfres is used: the steps are those of the file's description, their numbers those of its metadata. Prints how many
voxels of the brain there are, and how many labels differ; fails if one differs where the two largest logits are farther
apart than rounding in float32 explains.
"""

import glob
import gzip
import json
import struct
import sys

import numpy
import onnxruntime


def read_nifti(path):
    """Voxels [i, j, k] as float32, and the affine to left-right, back-front, foot-head in mm."""
    with gzip.open(path) as file:
        data = file.read()
    shape = struct.unpack_from("<8h", data, 40)[1:4]
    code = struct.unpack_from("<h", data, 70)[0]
    offset, slope, inter = struct.unpack_from("<3f", data, 108)
    kind = {2: "<u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 512: "<u2"}[code]
    voxels = numpy.frombuffer(data, kind, int(numpy.prod(shape)), int(offset)).reshape(shape, order="F")
    if slope not in (0, 1) or inter != 0:
        voxels = voxels * (slope or 1) + inter
    assert struct.unpack_from("<h", data, 254)[0] > 0, "no sform"
    affine = numpy.array(struct.unpack_from("<12f", data, 280)).reshape(3, 4)
    return voxels.astype(numpy.float32), affine


def turn(volume, affine, axes):
    """The volume with its axes pointing to where `axes` says: views, so that what is written to it arrives."""
    toward = {"right": (0, 1), "left": (0, -1), "front": (1, 1), "back": (1, -1), "head": (2, 1), "foot": (2, -1)}
    order = []
    flips = []
    for name in axes:
        world, sign = toward[name]
        axis = int(numpy.abs(affine[world, :3]).argmax())
        order.append(axis)
        flips.append(slice(None, None, -1 if affine[world, axis] * sign < 0 else 1))
    return volume.transpose(order)[tuple(flips)]


def background(volume):
    faces = [volume.take(end, axis).ravel() for axis in range(3) for end in (0, -1)]
    values, counts = numpy.unique(numpy.concatenate(faces), return_counts=True)
    return values[counts.argmax()]


def parts(mask):
    """The parts of a mask that are connected through faces, edges or corners, one mask each."""
    left = mask.copy()
    while left.any():
        part = numpy.zeros_like(mask)
        part[numpy.unravel_index(left.argmax(), mask.shape)] = True
        count = 0
        while part.sum() != count:
            count = part.sum()
            for axis in range(3):
                grown = part.copy()
                ahead = [slice(None)] * 3
                behind = [slice(None)] * 3
                ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
                grown[tuple(ahead)] |= part[tuple(behind)]
                grown[tuple(behind)] |= part[tuple(ahead)]
                # Growth along one axis after the other reaches edges and corners, over voxels beside the mask as well.
                part = grown
            part &= left
        left &= ~part
        yield part


def normalise(volume, brain, method):
    values = volume[brain].astype(numpy.float64)
    if method == "zscore-brain-clipped":
        ascending = numpy.sort(values)
        k = (len(values) - 1) // 2000
        if ascending[k] < ascending[-1 - k]:
            values = values.clip(ascending[k], ascending[-1 - k])
    else:
        assert method == "zscore-brain", method
    channel = numpy.zeros(volume.shape, numpy.float32)
    channel[brain] = (values - values.mean()) / values.std()
    return channel


def classes_of(logits, outputs):
    if outputs == "regions":
        whole, core, enhancing = logits > 0
        return numpy.where(enhancing, 3, numpy.where(core, 1, numpy.where(whole, 2, 0)))
    return logits.argmax(0)


def certain(logits, outputs):
    """Where no rounding in float32 changes the class."""
    if outputs == "regions":
        return numpy.abs(logits).min(0) > 1e-4 * numpy.abs(logits).max()
    first, second = numpy.sort(logits, axis=0)[[-1, -2]]
    return first - second > 1e-4 * numpy.abs(logits).max()


def without_small_parts(classes, metadata, voxel_mm3):
    least = float(metadata.get("mfres.min_component_mm3", 0))
    found = list(parts(classes > 0)) if least > 0 else []
    largest = max((part.sum() for part in found), default=0)
    for part in found:
        if part.sum() < largest and part.sum() * voxel_mm3 < least:
            classes[part] = 0
    enhancing = classes == 3
    core = enhancing.sum() + (classes == 1).sum()
    if (enhancing.sum() * voxel_mm3 < float(metadata.get("mfres.min_enhancing_mm3", 0))
            or enhancing.sum() < float(metadata.get("mfres.min_enhancing_share", 0)) * core):
        classes[enhancing] = 1


def main():
    model, case, labels = sys.argv[1:4]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    axes = metadata["mfres.onnx.axes"].split(",")
    outputs = json.loads(metadata["mfres.variant"]).get("outputs", "classes")

    volumes = []
    for modality in metadata["mfres.modalities"].split(","):
        (path,) = glob.glob(f"{glob.escape(case)}/*_{modality}.nii.gz")
        voxels, affine = read_nifti(path)
        volumes.append(turn(voxels, affine, axes))
    foreground = numpy.zeros(volumes[0].shape, bool)
    for volume in volumes:
        value = numpy.float64(background(volume))
        foreground |= numpy.abs(volume - value) > 2.0**-21 * numpy.abs(value)
    brain = max(parts(foreground), key=lambda part: part.sum())

    where = numpy.nonzero(brain)
    box = tuple(slice(along.min(), along.max() + 1) for along in where)
    multiple = int(metadata["mfres.onnx.multiple"])
    channels = [normalise(volume, brain, metadata["mfres.normalisation"])[box] for volume in volumes]
    ends = [(0, -extent % multiple) for extent in channels[0].shape]
    x = numpy.stack([numpy.pad(channel, ends) for channel in channels])[None]
    inside = tuple(slice(0, extent) for extent in channels[0].shape)
    logits = session.run(None, {"input": x})[0][0][(slice(None), *inside)]

    classes = numpy.zeros(brain.shape, numpy.int64)
    classes[box] = numpy.where(brain[box], classes_of(logits, outputs), 0)
    without_small_parts(classes, metadata, abs(numpy.linalg.det(affine[:, :3])))
    enhancing = {"brats": 4, "brats2023": 3}[metadata["mfres.label_scheme"]]
    ours = numpy.array([0, 1, 2, enhancing])[classes]

    written, affine = read_nifti(labels)
    different = ours != turn(written, affine, axes)
    print(f"{brain.sum()} voxels of the brain, {(ours > 0).sum()} of the tumour, {different.sum()} labels differ")
    assert (ours > 0).sum() > 100, "there is no tumour to compare"
    unexplained = different.copy()
    unexplained[box] &= certain(logits, outputs)
    assert not unexplained.any(), f"{unexplained.sum()} labels differ that rounding does not explain"


main()
