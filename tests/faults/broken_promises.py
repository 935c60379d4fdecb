#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Promises of the program that version 0.1 broke, each tried on a program.

tests/faults/broken_promises.py PROGRAM CASE [--only umask]

PROGRAM is a build of mfres, CASE the folder of a segmented BraTS case of 1 mm. silent_kinds.py has the inputs that gave
wrong labels; these are outputs that were lost, messages that help nobody, and faults of the machine. Prints a line each:
`kept` or `BROKEN`, with what was seen. Exit code: how many are broken, at most 100. Needs NumPy, for foreign ONNX
files the package onnx (else that is skipped), Linux, and about 2 GB of disk space."""
import argparse
import collections
import gzip
import json
import os
import pathlib
import resource
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

for folder in ("support", "train"):
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / folder))
import exchange  # noqa: E402
import process_memory  # noqa: E402
from nifti import CONTRASTS, case_files, read_nifti, write_nifti  # noqa: E402

Done = collections.namedtuple("Done", "code printed mib seconds")
promises = []


def promise(what):
    """Registers a method that returns whether the promise is kept, and what was seen."""
    def register(method):
        promises.append((what, method))
        return method
    return register


def last_line(done):
    lines = done.printed.strip().splitlines() or ["nothing said"]
    return f"exit {done.code}: {lines[-1]}"


class Promises:
    def __init__(self, program, case, work):
        self.program, self.work = program, work
        self.files = case_files(case)
        self.images = {name: read_nifti(self.files[name]) for name in CONTRASTS}
        self.idle = self.run("--version").mib

    def run(self, *arguments, output=None, timeout=120, limits=()):
        """The program to its end: negative exit codes are signals, None is a program that had to be killed."""
        def limit():
            for which, value in limits:
                resource.setrlimit(which, (value, value))
        with tempfile.TemporaryFile() as printed:
            begin = time.monotonic()
            process = subprocess.Popen([self.program, *map(str, arguments)], stdout=output or printed, stderr=printed,
                                       stdin=subprocess.DEVNULL, preexec_fn=limit)
            code, peak = process_memory.wait(process, timeout)
            if code is None:
                process.kill()
                process.wait()
            printed.seek(0)
            return Done(code, printed.read().decode(errors="replace"), peak, time.monotonic() - begin)

    def folder(self):
        return pathlib.Path(tempfile.mkdtemp(dir=self.work))

    def case(self, folder, name="a", changed=None, leave_out=()):
        """A case folder of uncompressed files, some contrasts replaced by arrays."""
        target = folder / name
        target.mkdir(parents=True)
        for contrast in CONTRASTS:
            if contrast not in leave_out:
                header, voxels = self.images[contrast]
                write_nifti(target / f"{name}_{contrast}.nii", header, (changed or {}).get(contrast, voxels))
        return target

    def paths(self, case):
        return [word for name in CONTRASTS for word in (f"--{name}", case / f"{case.name}_{name}.nii")]

    def helps(self, done, *cues):
        """Whether a run failed with a message that has one of the cues."""
        failed = done.code is not None and done.code > 0
        return failed and any(cue in done.printed for cue in cues), last_line(done)

    # Memory

    @promise("--max-memory 128M holds for float32 voxels of 1 mm")
    def memory(self):
        case = self.case(self.folder())
        done = self.run("segment", "--case", case, "--out", case / "o.nii", "--max-memory", "128M")
        more = done.mib - self.idle
        return done.code == 0 and more <= 128, f"exit {done.code}, {more:.0f} MiB above the idle program"

    @promise("--max-memory 128M holds for float32 voxels of 0.5 mm, resampled")
    def memory_resampled(self):
        target = self.folder() / "a"
        target.mkdir()
        for name, (header, voxels) in self.images.items():
            fine = voxels.repeat(2, 0).repeat(2, 1).repeat(2, 2)
            write_nifti(target / f"a_{name}.nii", header, fine, spacing=0.5)
        done = self.run("segment", "--case", target, "--out", target / "o.nii", "--resample", "--max-memory", "128M")
        more = done.mib - self.idle
        shutil.rmtree(target)
        return done.code == 0 and more <= 128, f"exit {done.code}, {more:.0f} MiB above the idle program"

    # Outputs

    @promise("the report of a resampled case counts the voxels of its label map")
    def volumes(self):
        target = self.folder() / "a"
        target.mkdir()
        for name, (header, voxels) in self.images.items():
            write_nifti(target / f"a_{name}.nii", header, voxels[::2, ::2, ::2], spacing=2.0)
        done = self.run("segment", "--case", target, "--out", target / "o.nii", "--resample", "--json")
        if done.code != 0:
            return False, last_line(done)
        report, _ = json.JSONDecoder().raw_decode(done.printed[done.printed.index("{"):])
        counted = report["regions"]["WT"]["voxels"]
        written = int((read_nifti(target / "o.nii")[1] > 0).sum())
        return counted == written, f"WT {counted} voxels in the report, {written} in the map"

    @promise("an incomplete patient does not stop a folder of cases")
    def incomplete(self):
        data = self.folder()
        self.case(data, "a")
        self.case(data, "b", leave_out=("flair",))
        results = self.work / "results"
        done = self.run("segment", "--data", data, "--out", results)
        written = sorted(path.name for path in results.rglob("*.nii*")) if results.exists() else []
        shutil.rmtree(results, ignore_errors=True)
        return len(written) == 1 and done.code != 0, f"exit {done.code}, written: {written}"

    @promise("check goes on after an incomplete patient")
    def incomplete_check(self):
        data = self.folder()
        self.case(data, "b-complete")
        self.case(data, "a-incomplete", leave_out=("flair",))
        done = self.run("check", data)
        return "b-complete" in done.printed and done.code != 0, last_line(done)

    @promise("two outputs of one name are rejected")
    def one_name(self):
        case = self.case(self.folder())
        out = case.parent / "x.nii"
        done = self.run("segment", "--case", case, "--out", out, "--report", out, "--force")
        lost = out.exists() and out.read_bytes()[:1] == b"{"
        return done.code != 0 and not lost, last_line(done) + (", a report under the name of labels" if lost else "")

    @promise("an output that is an input is rejected, also with --force")
    def over_input(self):
        case = self.case(self.folder())
        scan = case / "a_t1.nii"
        before = scan.read_bytes()
        done = self.run("segment", "--case", case, "--out", scan, "--force")
        return scan.read_bytes() == before and done.code != 0, last_line(done)

    @promise("where the last output fails, the message tells of those that were written")
    def failing_report(self):
        case = self.case(self.folder())
        report = case.parent / ("r" * 250 + ".json")
        out = case.parent / "o.nii"
        done = self.run("segment", "--case", case, "--out", out, "--report", report)
        told = report.exists() if done.code == 0 else not out.exists() or str(out) in done.printed
        return told, f"exit {done.code}, labels {'' if out.exists() else 'not '}written" + ("" if told else ", not told")

    @promise("a full standard output is an error")
    def full(self):
        with open("/dev/full", "wb") as output:
            done = self.run("complexity", output=output)
        return done.code not in (0, None), f"exit {done.code}"

    @promise("a file that is overwritten keeps its permissions")
    def permissions(self):
        model = self.folder() / "m.safetensors"
        self.run("init", "--network", "mf-res2net", "--seed", 1, "--out", model)
        model.chmod(0o600)
        done = self.run("init", "--network", "mf-res2net", "--seed", 1, "--out", model, "--force")
        mode = stat.S_IMODE(model.stat().st_mode)
        return done.code == 0 and mode == 0o600, f"exit {done.code}, 0600 became 0{mode:o}"

    @promise("a file may have a name of 255 bytes")
    def long_name(self):
        name = "n" * (255 - len(".safetensors")) + ".safetensors"
        done = self.run("init", "--network", "mf-res2net", "--seed", 1, "--out", self.folder() / name)
        return done.code == 0, last_line(done)[:100]

    @promise("a limit on the size of files is an error, and leaves nothing behind")
    def file_size(self):
        folder = self.folder()
        done = self.run("init", "--network", "mf-res2net", "--seed", 1, "--out", folder / "m.safetensors",
                        limits=[(resource.RLIMIT_FSIZE, 1 << 20)])
        left = [path.name for path in folder.iterdir()]
        return done.code is not None and done.code > 0 and not left, f"exit {done.code}, left: {left}"

    @promise("of two runs that write one new file one succeeds")
    def race(self):
        rounds = 10
        both = 0
        for _ in range(rounds):
            out = self.folder() / "m.safetensors"
            command = [self.program, "init", "--network", "mf-res2net", "--seed", "1", "--out", str(out)]
            pair = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
            both += sum(process.wait() == 0 for process in pair) != 1
        return both == 0, f"in {both} of {rounds} rounds not exactly one"

    # Scores

    @promise("evaluate tells of a case whose reference has an unknown name")
    def names_of_references(self):
        root = self.folder()
        header, labels = read_nifti(self.files["seg"])
        labels = labels.astype(np.uint8)
        (root / "pred").mkdir()
        for name, ending in (("a", "seg"), ("b", "mask")):
            (root / "ref" / name).mkdir(parents=True)
            write_nifti(root / "ref" / name / f"{name}_{ending}.nii", header, labels)
            write_nifti(root / "ref" / name / f"{name}_t1.nii", header, self.images["t1"][1])
            write_nifti(root / "pred" / f"{name}.nii", header, labels)
        done = self.run("evaluate", "--pred", root / "pred", "--ref", root / "ref")
        return "b_mask" in done.printed, last_line(done)

    @promise("labels stored through a slope are read")
    def slope(self):
        root = self.folder()
        header, labels = read_nifti(self.files["seg"])
        labels = labels.astype(np.uint8)
        # As nibabel stores labels that were floats: the largest is 255, the others are rounded.
        for folder, file, slope in (("ref/a", "a_seg.nii", labels.max() / 255), ("pred", "a.nii", 1.0)):
            (root / folder).mkdir(parents=True)
            write_nifti(root / folder / file, header, np.round(labels / slope).astype(np.uint8), slope=slope)
        done = self.run("evaluate", "--pred", root / "pred", "--ref", root / "ref")
        return done.code == 0, last_line(done)

    # Weights of others

    def weights(self, changed=lambda tensors: tensors):
        folder = self.folder()
        self.run("init", "--network", "mf-res2net", "--seed", 1, "--out", folder / "model.safetensors")
        exchange.write_safetensors(folder / "w.safetensors",
                                   changed(exchange.read_safetensors(folder / "model.safetensors")))
        return folder / "w.safetensors"

    def convert(self, weights, *options, **more):
        order = ("--modalities", "t1,t1ce,t2,flair") if "--modalities" in self.run("convert", "--help").printed else ()
        return self.run("convert", weights, "--network", "mf-res2net", "--out", weights.parent / "out.safetensors",
                        *order, *options, **more)

    @promise("a common prefix of all names is named, with the option that takes it off")
    def prefix(self):
        done = self.convert(self.weights(lambda tensors: {f"net.{name}": it for name, it in tensors.items()}))
        return done.code == 0 or self.helps(done, "--prefix")[0], f"exit {done.code}"

    @promise("a negative running variance is rejected")
    def variance(self):
        def negative(tensors):
            name = next(name for name in tensors if name.endswith("var"))
            tensors[name][0] = -1.0
            return tensors
        done = self.convert(self.weights(negative))
        return self.helps(done, "varianc", "negative")

    @promise("a mapping's expression cannot run for ever")
    def expression(self):
        weights = self.weights(lambda tensors: {"a" * 40 + "b": np.zeros(1), **tensors})
        mapping = weights.parent / "mapping.json"
        mapping.write_text(json.dumps({"rules": [{"match": "(a|a)*c", "name": "x"}]}))
        done = self.convert(weights, "--mapping", mapping, timeout=20)
        return done.code is not None and done.seconds < 5, f"exit {done.code} after {done.seconds:.1f} s"

    @promise("an ONNX file with its weights in another file is read")
    def external_data(self):
        return self.imported(lambda onnx, model, path: onnx.save_model(
            model, path, save_as_external_data=True, location="w.bin", size_threshold=0))

    @promise("an ONNX file that ends with a softmax is read")
    def final_softmax(self):
        def save(onnx, model, path):
            logits = model.graph.output[0]
            model.graph.node.append(onnx.helper.make_node("Softmax", [logits.name], ["probabilities"], axis=1))
            logits.name = "probabilities"
            onnx.save_model(model, path)
        return self.imported(save)

    def imported(self, save):
        """Whether a network of somebody else is read: save(onnx, model, path) writes it."""
        try:
            import onnx
        except ImportError:
            return None, "skipped: there is no package onnx"
        folder = self.weights().parent
        self.run("convert", folder / "model.safetensors", "--out", folder / "m.onnx")
        model = onnx.load(folder / "m.onnx")
        del model.metadata_props[:]
        save(onnx, model, str(folder / "theirs.onnx"))
        done = self.convert(folder / "theirs.onnx")
        return done.code == 0, last_line(done)

    # Messages with a remedy

    @promise("a 4-D file: how to take one volume of it")
    def four_dimensions(self):
        voxels = self.images["t1"][1]
        case = self.case(self.folder(), changed={"t1": np.stack([voxels, voxels], 3)})
        return self.helps(self.run("segment", *self.paths(case), "--out", case / "o.nii"), "fslsplit", "--volume", "split")

    @promise("not a number outside the brain: how to replace it")
    def not_a_number(self):
        voxels = self.images["t1"][1].astype(np.float32)
        voxels[0, 0, 0] = np.nan
        case = self.case(self.folder(), changed={"t1": voxels})
        done = self.run("segment", *self.paths(case), "--out", case / "o.nii")
        return done.code == 0 or self.helps(done, "fslmaths", "nan_to_num", "replace")[0], last_line(done)

    @promise("no orientation: where it comes from")
    def orientation(self):
        case = self.case(self.folder())
        path = case / "a_t1.nii"
        data = bytearray(path.read_bytes())
        struct.pack_into("<2h", data, 252, 0, 0)
        path.write_bytes(data)
        return self.helps(self.run("segment", *self.paths(case), "--out", case / "o.nii"), "set_sform", "fslcpgeom")

    @promise("a link that leads nowhere is called one")
    def dangling_link(self):
        case = self.case(self.folder(), leave_out=("t2",))
        (case / "a_t2.nii").symlink_to("gone.nii")
        return self.helps(self.run("segment", "--case", case, "--out", case.parent / "o.nii"), "link")

    @promise("a contrast that is missing: the files that no ending says")
    def missing_contrast(self):
        case = self.case(self.folder())
        (case / "a_t2.nii").rename(case / "a_tee2.nii")
        return self.helps(self.run("segment", "--case", case, "--out", case.parent / "o.nii"), "a_tee2.nii")

    @promise("--case with a folder of cases: --data")
    def folder_of_cases(self):
        data = self.folder()
        self.case(data, "a")
        return self.helps(self.run("segment", "--case", data, "--out", data / "o.nii"), "--data")

    @promise("a file compressed twice is called one")
    def compressed_twice(self):
        case = self.case(self.folder())
        path = case / "a_t1.nii"
        (case / "a_t1.nii.gz").write_bytes(gzip.compress(gzip.compress(path.read_bytes(), 1), 1))
        path.unlink()
        return self.helps(self.run("segment", "--case", case, "--out", case.parent / "o.nii"), "twice", "compressed again")

    @promise("control characters of names do not reach the terminal")
    def control_characters(self):
        done = self.run("segment", "--case", self.work / "red\x1b[31mcase", "--out", self.work / "o.nii")
        return "\x1b[31m" not in done.printed, repr(last_line(done))

    # The machine

    @promise("little address space is an error, not a signal")
    def address_space(self):
        case = self.case(self.folder())
        codes = {}
        for mib in (250, 300, 330, 360, 400):
            codes[mib] = self.run("segment", "--case", case, "--out", case.parent / "o.nii", "--force",
                                  limits=[(resource.RLIMIT_AS, mib << 20)]).code
        return all(code is not None and code >= 0 for code in codes.values()), f"exit by MiB: {codes}"

    @promise("JSON of 30,000 levels is an error, not a signal")
    def nesting(self):
        weights = self.weights()
        mapping = weights.parent / "mapping.json"
        mapping.write_text('{"rules": ' + "[" * 30000 + "]" * 30000 + "}")
        return self.helps(self.convert(weights, "--mapping", mapping), "")

    @promise("a hole of 4 GiB called safetensors is rejected by its header")
    def hole(self):
        path = self.folder() / "hole.safetensors"
        with open(path, "wb") as file:
            file.truncate(4 << 30)
        done = self.convert(path)
        return self.helps(done, "")[0] and done.mib < 500, f"exit {done.code}, {done.mib:.0f} MiB, {done.seconds:.1f} s"

    @promise("four files of 0.5 MB that inflate to 512 MiB each take little memory")
    def inflated(self):
        case = self.folder() / "a"
        case.mkdir()
        header = bytearray(self.images["t1"][0])
        struct.pack_into("<3h", header, 42, 512, 512, 511)
        struct.pack_into("<2h", header, 70, 16, 32)
        struct.pack_into("<3f", header, 108, 352.0, 1.0, 0.0)
        slice_of = bytes(512 * 512 * 4)
        with gzip.open(case / "a_t1.nii.gz", "wb", 6) as file:
            file.write(bytes(header) + bytes(4))
            for _ in range(511):
                file.write(slice_of)
        for name in CONTRASTS[1:]:
            shutil.copy(case / "a_t1.nii.gz", case / f"a_{name}.nii.gz")
        done = self.run("segment", "--case", case, "--out", case.parent / "o.nii")
        return self.helps(done, "")[0] and done.mib < 500, f"exit {done.code}, {done.mib:.0f} MiB, {done.seconds:.1f} s"

    @promise("a pipe as input is rejected at once")
    def pipe(self):
        path = self.folder() / "p.pth"
        os.mkfifo(path)
        done = self.run("convert", path, "--network", "dmfnet", "--out", path.parent / "o.safetensors", timeout=5)
        return self.helps(done, "")[0], f"exit {done.code}" if done.code is not None else "hangs"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("case", type=pathlib.Path)
    parser.add_argument("--only", default="", help="part of a promise's name or text")
    given = parser.parse_args()
    broken = 0
    with tempfile.TemporaryDirectory() as work:
        promised = Promises(str(pathlib.Path(given.program).resolve()), given.case, pathlib.Path(work))
        for what, method in promises:
            if given.only not in what and given.only not in method.__name__:
                continue
            kept, seen = method(promised)
            broken += kept is False
            seen = " ".join(str(seen).replace(work, "").split())
            print(f"{what:76} {'skipped' if kept is None else 'kept' if kept else 'BROKEN':8} {seen[:140]}", flush=True)
    print(f"{broken} broken")
    sys.exit(min(broken, 100))


main()
