"""Files that the tests exchange with PyTorch: safetensors, and plain little-endian float64 arrays."""

import json
import os
import struct

import numpy

NUMPY_TYPES = {"F32": "<f4", "F64": "<f8"}


def read_safetensors(path):
    """All tensors of a file as numpy arrays, by name."""
    with open(path, "rb") as file:
        (header_size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(header_size))
        data = file.read()
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = numpy.frombuffer(data[begin:end], dtype=NUMPY_TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"]).copy()
    return tensors


def write_safetensors(path, tensors):
    """Arrays by name, as float32."""
    header, blocks, begin = {}, [], 0
    for name, values in tensors.items():
        block = numpy.ascontiguousarray(values, dtype="<f4").tobytes()
        shape = list(numpy.shape(values))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, begin + len(block)]}
        blocks.append(block)
        begin += len(block)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blocks))


def write_doubles(folder, name, values):
    """An array without its shape, as <folder>/<name>.f64."""
    numpy.asarray(values, dtype="<f8").tofile(os.path.join(folder, name + ".f64"))
