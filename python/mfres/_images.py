# SPDX-License-Identifier: MIT
"""What can be given as an image: paths, arrays with an affine, nibabel's images."""
from __future__ import annotations

import ctypes
import os
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np

from . import _library as c

# A path, a NumPy array [i, j, k], an array with its affine, or an image of nibabel.
Image = Union[str, "os.PathLike[str]", np.ndarray, Tuple[np.ndarray, Any], Any]

CONTRASTS = ("t1", "t1ce", "t2", "flair")

# NIfTI's numbers of the scalar types.
TYPES = {
    "uint8": 2,
    "int16": 4,
    "int32": 8,
    "float32": 16,
    "float64": 64,
    "int8": 256,
    "uint16": 512,
    "uint32": 768,
    "int64": 1024,
    "uint64": 1280,
}


def is_path(image: Image) -> bool:
    return isinstance(image, (str, os.PathLike))


def _stored(image: Any) -> Tuple[np.ndarray, float, float]:
    """The voxels of an image of nibabel as they are stored, with slope and intercept, so that they are scaled as in files."""
    proxy = image.dataobj
    if hasattr(proxy, "get_unscaled"):
        return np.asanyarray(proxy.get_unscaled()), float(proxy.slope), float(proxy.inter)
    return np.asanyarray(proxy), 0.0, 0.0


def _parts(name: str, image: Image, affine: Optional[Any]) -> Tuple[np.ndarray, np.ndarray, float, float]:
    """Voxels, affine, slope and intercept of anything but a path."""
    slope = inter = 0.0
    if hasattr(image, "dataobj") and hasattr(image, "affine"):
        own: Optional[Any] = getattr(image, "affine")
        voxels, slope, inter = _stored(image)
    elif isinstance(image, tuple):
        if len(image) != 2:
            raise ValueError(f"{name} is a tuple of {len(image)}; it has to be (array, affine)")
        voxels, own = np.asanyarray(image[0]), image[1]
    else:
        voxels, own = np.asanyarray(image), affine
    if own is None:
        raise ValueError(f"{name} is an array without an affine: give (array, affine), or affine= for all of them")
    matrix = np.asarray(own, dtype=np.float64)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise ValueError(f"the affine of {name} has the shape {matrix.shape}; it has to be 4x4 or 3x4")
    if voxels.ndim == 4 and voxels.shape[3] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim != 3:
        raise ValueError(f"{name} has the shape {voxels.shape}; an image has three axes")
    return voxels, matrix[:3], slope, inter


def _storable(name: str, voxels: np.ndarray) -> np.ndarray:
    """The same voxels in a type and an order that the library reads; a copy only where it has to be one."""
    if voxels.dtype == np.bool_:
        voxels = voxels.astype(np.uint8)
    elif voxels.dtype == np.float16:
        voxels = voxels.astype(np.float32)
    if not voxels.dtype.isnative:
        voxels = voxels.astype(voxels.dtype.newbyteorder("="))
    if voxels.dtype.name not in TYPES:
        raise ValueError(f"{name} has voxels of {voxels.dtype}; there are " + ", ".join(TYPES))
    # A stride of 0 (a broadcast array) means "contiguous" to the library.
    if any(stride == 0 or stride % voxels.itemsize for stride in voxels.strides):
        voxels = voxels.copy(order="F")
    return voxels


class MemoryCase:
    """Images in memory as C describes them. Holds the arrays that it points into."""

    def __init__(self, images: Sequence[Optional[Image]], affine: Optional[Any], case_id: str) -> None:
        self.case = c.Case()
        self.case.id = c.to_bytes(case_id)
        self.kept: List[np.ndarray] = []
        self.size: Tuple[int, int, int] = (0, 0, 0)
        self.affine = np.eye(4)
        for name, image in zip(CONTRASTS, images):
            if image is None:
                continue
            voxels, matrix, slope, inter = _parts(name, image, affine)
            if not self.kept:
                self.size = (int(voxels.shape[0]), int(voxels.shape[1]), int(voxels.shape[2]))
                self.affine[:3] = matrix
            setattr(self.case, name, ctypes.pointer(self._volume(name, voxels, matrix, slope, inter)))

    def _volume(self, name: str, voxels: np.ndarray, matrix: np.ndarray, slope: float, inter: float) -> c.Volume:
        voxels = _storable(name, voxels)
        self.kept.append(voxels)
        volume = c.Volume()
        volume.voxels = voxels.__array_interface__["data"][0]
        volume.type = TYPES[voxels.dtype.name]
        volume.size = (ctypes.c_int64 * 3)(*voxels.shape)
        volume.strides = (ctypes.c_int64 * 3)(*(stride // voxels.itemsize for stride in voxels.strides))
        for row in range(3):
            volume.affine[row] = (ctypes.c_double * 4)(*matrix[row])
        volume.slope, volume.inter = slope, inter
        return volume
