# SPDX-License-Identifier: MIT
"""HD95 as medpy defines it, with SciPy: the independent answer that test_hd95.cpp compares ours with.

Usage: hd95_oracle.py FOLDER. Reads FOLDER/pairs.txt, one line per pair: name, size along i, j, k, spacing along i, j, k
in mm. FOLDER/<name>.bin holds the two masks one after the other, a byte per voxel, i fastest. Prints one line per pair
with 17 significant digits.
"""
import sys

import numpy
from scipy import ndimage


def surface(mask):
    """The mask without its erosion by the 6-neighbourhood; beyond the array is outside."""
    cross = ndimage.generate_binary_structure(mask.ndim, 1)
    return mask & ~ndimage.binary_erosion(mask, structure=cross, border_value=0)


def directed(source, target, spacing):
    """Distance of every surface voxel of source to the surface of target, mm."""
    to_target = ndimage.distance_transform_edt(~surface(target), sampling=spacing)
    return to_target[surface(source)]


def hd95(a, b, spacing):
    return numpy.percentile(numpy.hstack((directed(a, b, spacing), directed(b, a, spacing))), 95)


def main(folder):
    with open(folder + "/pairs.txt", encoding="ascii") as pairs:
        for line in pairs:
            name, *numbers = line.split()
            size = tuple(int(number) for number in numbers[:3])
            spacing = tuple(float(number) for number in numbers[3:])
            masks = numpy.fromfile(f"{folder}/{name}.bin", dtype=numpy.uint8) != 0
            a, b = (half.reshape(size, order="F") for half in numpy.split(masks, 2))
            print("%.17g" % hd95(a, b, spacing))


if __name__ == "__main__":
    main(sys.argv[1])
