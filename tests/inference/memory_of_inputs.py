#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Peak memory of `mfres segment` on one case in several forms.

tests/inference/memory_of_inputs.py build/dev/bin/mfres MODEL CASE_FOLDER [--max-memory 128M] [--backend onednn] [--only '0.5 mm']

Rewrites the four volumes of a case as int16, float32 and float64, with voxels of 0.5 mm (each voxel eight times; also
with fractions, so that they are kept as floats) and of 2 mm (every second voxel), and segments each form. Prints the exit
status, the planned and the measured peak of the report, and the most memory that the system saw the process hold; first
that of the idle program, which --max-memory does not count (`mfres --version`). Needs Python 3 alone, and about 3 GB of disk space."""
import argparse
import array
import gzip
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "support"))
import process_memory  # noqa: E402

CODES = {"int16": (4, 16, "h"), "float32": (16, 32, "f"), "float64": (64, 64, "d")}


def read(path):
    with (gzip.open if path.name.endswith(".gz") else open)(path, "rb") as file:
        data = file.read()
    dim = struct.unpack_from("<8h", data, 40)
    code, = struct.unpack_from("<h", data, 70)
    offset, = struct.unpack_from("<f", data, 108)
    letter = {4: "h", 16: "f", 512: "H", 2: "B"}[code]
    voxels = array.array(letter)
    voxels.frombytes(data[int(offset):])
    return data[:348], dim[1:4], voxels


def doubled(size, voxels):
    out = array.array(voxels.typecode)
    for k in range(size[2]):
        plane = array.array(voxels.typecode)
        for j in range(size[1]):
            begin = size[0] * (j + size[1] * k)
            row = array.array(voxels.typecode, bytes(2 * size[0] * voxels.itemsize))
            row[0::2] = row[1::2] = voxels[begin:begin + size[0]]
            plane += row + row
        out += plane + plane
    return tuple(2 * n for n in size), out


def halved(size, voxels):
    out = array.array(voxels.typecode)
    for k in range(0, size[2], 2):
        for j in range(0, size[1], 2):
            begin = size[0] * (j + size[1] * k)
            out += voxels[begin:begin + size[0]:2]
    return tuple((n + 1) // 2 for n in size), out


def with_fractions(voxels):
    table = [value if value == 0 else value + 0.3 for value in range(-32768, 32768)]
    return array.array("f", map(table.__getitem__, (value + 32768 for value in voxels)))


def write(path, header, size, mm, voxels, datatype):
    code, bits, letter = CODES[datatype]
    header = bytearray(header)
    struct.pack_into("<8h", header, 40, 3, *size, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, code, bits)
    struct.pack_into("<3f", header, 80, mm, mm, mm)
    struct.pack_into("<f", header, 108, 352)
    for row in range(3):  # the columns of the sform
        for column in range(3):
            place = 280 + 16 * row + 4 * column
            struct.pack_into("<f", header, place, mm * struct.unpack_from("<f", header, place)[0])
    struct.pack_into("<h", header, 252, 0)  # no qform
    with open(path, "wb") as file:
        file.write(header + bytes(4))
        array.array(letter, voxels).tofile(file) if letter != voxels.typecode else voxels.tofile(file)


def write_case(source_folder, case, change, mm, datatype):
    for source in sorted(source_folder.glob("*.nii*")):
        ending = source.name.split(".")[0].split("_")[-1]
        if ending == "seg":
            continue
        header, size, voxels = read(source)
        size, voxels = change(size, voxels)
        write(case / f"case_{ending}.nii", header, size, mm, voxels, datatype)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("case", type=pathlib.Path)
    parser.add_argument("--max-memory")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--only", default="", help="the forms whose names begin so")
    given = parser.parse_args()
    forms = [("1 mm", lambda size, voxels: (size, voxels), 1.0, t) for t in CODES]
    forms += [("2 mm", halved, 2.0, t) for t in ("int16", "float32")]
    forms += [("0.5 mm", doubled, 0.5, t) for t in ("int16", "float32")]
    forms += [("0.5 mm, fractions", lambda size, voxels: doubled(size, with_fractions(voxels)), 0.5, "float32")]
    idle = process_memory.wait(subprocess.Popen([given.program, "--version"], stdout=subprocess.DEVNULL))[1]
    print(f"The idle program holds {idle:.0f} MiB.\n")
    print("| voxels | stored as | exit | planned MiB | measured MiB | process MiB |\n|---|---|---|---|---|---|")
    for name, change, mm, datatype in forms:
        if not name.startswith(given.only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            case = pathlib.Path(folder) / "case"
            case.mkdir()
            write_case(given.case, case, change, mm, datatype)
            command = [given.program, "segment", "--model", given.model, "--case", str(case), "--out",
                       f"{folder}/labels.nii.gz", "--backend", given.backend, "--threads", given.threads, "--json"]
            if given.max_memory:
                command += ["--max-memory", given.max_memory]
            if mm != 1.0:
                command.append("--resample")
            command.append("--quiet")
            with open(f"{folder}/report", "w+") as report, open(f"{folder}/errors", "w+") as errors:
                child = subprocess.Popen(command, stdout=report, stderr=errors)
                code, peak = process_memory.wait(child)
                report.seek(0)
                errors.seek(0)
                mib = lambda number: f"{number / 2**20:.0f}"
                planned = measured = "-"
                if code == 0:
                    told = json.load(report)
                    planned, measured = mib(told["planned_peak_bytes"]), mib(told["measured_peak_bytes"])
                print(f"| {name} | {datatype} | {code} | {planned} | {measured} | {peak:.0f} |", flush=True)
                print(errors.read(), file=sys.stderr, end="")


if __name__ == "__main__":
    main()
