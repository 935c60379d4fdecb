#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Inputs that version 0.1 answered with wrong labels or wrong scores, exit code 0 and no warning.

tests/faults/silent_kinds.py PROGRAM CASE [--only 6]

PROGRAM is a build of mfres, CASE the folder of a segmented BraTS case of 1 mm. Makes every input of the nine kinds from
the case, runs the program, and prints one line each: `right` (labels within 0.01 Dice of those of the untouched case, in
every region), `rejected` (an exit code other than 0, with the message), `warned` (a warning names the cause), or `WRONG`.
Exit code: the number of wrong ones, at most 100. Needs NumPy, and about 1 GB of disk space."""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

for folder in ("support", "train"):
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / folder))
import exchange  # noqa: E402
from nifti import CONTRASTS, case_files, read_nifti, write_nifti  # noqa: E402


def dilated(mask, steps):
    for _ in range(steps):
        grown = mask.copy()
        for axis in range(3):
            for by in (-1, 1):
                moved = np.roll(mask, by, axis)
                edge = [slice(None)] * 3
                edge[axis] = 0 if by == 1 else -1
                moved[tuple(edge)] = False
                grown |= moved
        mask = grown
    return mask


def regions(labels):
    return labels > 0, np.isin(labels, (1, 3, 4)), np.isin(labels, (3, 4))


def lowest_dice(a, b):
    def dice(x, y):
        both = x.sum() + y.sum()
        return 1.0 if both == 0 else 2.0 * (x & y).sum() / both
    return min(dice(x, y) for x, y in zip(regions(a), regions(b)))


class Kinds:
    def __init__(self, program, case, work, only):
        self.program, self.work, self.only = program, work, only
        self.wrong = 0
        self.files = case_files(case)
        self.images = {name: read_nifti(self.files[name]) for name in CONTRASTS}
        self.brain = self.images["flair"][1] != 0
        self.untouched = self.segment({}, report=False)[1]
        if self.untouched is None:
            sys.exit("the untouched case is not segmented")

    def run(self, *arguments):
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True, errors="replace")
        return done.returncode, done.stdout + done.stderr

    def segment(self, changed, *options, report=True, names=None, spacing=None):
        """(exit code or 0, labels or None, what was printed) for a case with some contrasts replaced by arrays."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.work))
        paths = []
        for name in CONTRASTS:
            header, voxels = self.images[name]
            path = folder / f"{(names or {}).get(name, name)}.nii"
            write_nifti(path, header, changed.get(name, voxels), spacing)
            paths += [f"--{name}", path]
        code, printed = self.run("segment", *paths, "--out", folder / "labels.nii", *options)
        labels = read_nifti(folder / "labels.nii")[1] if code == 0 else None
        shutil.rmtree(folder)
        return code, labels, printed

    def tell(self, kind, what, verdict, detail=""):
        self.wrong += verdict == "WRONG"
        detail = " ".join(str(detail).split())
        print(f"{kind}  {what:58} {verdict:9} {detail[:150]}", flush=True)

    def labels(self, kind, what, changed, *options, cue=None, expected=None, **more):
        code, labels, printed = self.segment(changed, *options, **more)
        warning = [line for line in printed.splitlines() if "warning" in line and (cue or "\0") in line]
        if code != 0:
            self.tell(kind, what, "rejected", f"exit {code}: " + printed.strip().splitlines()[-1])
            return
        expected = self.untouched if expected is None else expected
        dice = lowest_dice(labels, expected) if expected.shape == labels.shape else 0.0
        self.tell(kind, what, "right" if dice >= 0.99 else "warned" if warning else "WRONG",
                  f"lowest Dice with the untouched case {dice:.4f} " + (warning[0] if warning else ""))

    def all_kinds(self):
        for kind in range(1, 10):
            if self.only in (None, kind):
                getattr(self, f"kind{kind}")(kind)
        return self.wrong

    def kind1(self, kind):
        random = np.random.default_rng(1)
        flair = self.images["flair"][1].astype(np.float64)
        noisy = np.where(self.brain, flair, random.uniform(-1e-6, 1e-6, flair.shape))
        self.labels(kind, "FLAIR's background is 0 +- 1e-6", {"flair": noisy})
        second = flair.copy()
        second[~self.brain & (np.arange(flair.shape[0])[:, None, None] < 4)] = 7.0
        self.labels(kind, "a second constant in FLAIR's background", {"flair": second})
        scored = {}
        for name in CONTRASTS:
            voxels = self.images[name][1].astype(np.float64)
            scored[name] = (voxels - voxels.mean()) / voxels.std()
            scored[name][:3] = 0.0
        self.labels(kind, "z-scores of whole volumes, padded with zeros", scored)

    def kind2(self, kind):
        ring = dilated(self.brain, 12) & ~dilated(self.brain, 3)
        skull = {name: np.where(ring, 2.0 * np.percentile(voxels[self.brain], 90), voxels)
                 for name, (_, voxels) in self.images.items()}
        self.labels(kind, "a skull around the brain in every contrast", skull)
        self.labels(kind, "a skull in T2 alone", {"t2": skull["t2"]})
        middle = [int(np.median(axis)) for axis in np.nonzero(self.brain)]
        around = tuple(slice(at - 3, at + 5) for at in middle)
        tiny = {name: voxels[around].copy() for name, (_, voxels) in self.images.items()}
        rim = np.ones((8, 8, 8), bool)
        rim[3:5, 3:5, 3:5] = False
        for voxels in tiny.values():
            voxels[rim] = 0
        self.labels(kind, "a brain of 2 x 2 x 2 voxels in a grid of 8 x 8 x 8", tiny)

    def kind3(self, kind):
        half = self.images["t1ce"][1].copy()
        half[: half.shape[0] // 2] = 0
        self.labels(kind, "T1ce covers half of the brain", {"t1ce": half})
        again = self.images["t1"][1].copy()
        again[tuple(np.argwhere(self.brain)[0])] += 1
        self.labels(kind, "T1 given as T1ce, one voxel changed", {"t1ce": again})
        below = np.cumsum(self.brain.sum((0, 1))) / self.brain.sum()
        cut = int(np.argmax(below > 0.02))
        _, plain, _ = self.segment({"flair": self.without(cut, 0)["flair"]})
        for background in (-1024, -32768):
            self.labels(kind, f"FLAIR lacks 2 % of the brain, background {background}", self.without(cut, background),
                        expected=plain)
        flair = np.where(self.brain, self.images["flair"][1], -1024.0)
        flair[1:] = 0.5 * (flair[1:] + flair[:-1])
        self.labels(kind, "FLAIR moved by half a voxel, background -1024", {"flair": flair})

    def without(self, cut, background):
        """All contrasts with that background, FLAIR without the first `cut` planes."""
        shown = self.brain.copy()
        shown[:, :, :cut] = False
        return {name: np.where(shown if name == "flair" else self.brain, voxels.astype(np.float64), background)
                for name, (_, voxels) in self.images.items()}

    def scores(self, kind, what, reference, predicted, wanted, *options):
        """Dice of ET as evaluate says it for the reference and the prediction, each a list of label maps."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.work))
        for i, (truth, guess) in enumerate(zip(reference, predicted)):
            (folder / "ref" / f"c{i}").mkdir(parents=True)
            (folder / "pred").mkdir(exist_ok=True)
            header = self.images["t1"][0]
            write_nifti(folder / "ref" / f"c{i}" / f"c{i}_seg.nii", header, truth.astype(np.uint8))
            write_nifti(folder / "pred" / f"c{i}.nii", header, guess.astype(np.uint8))
        code, printed = self.run("evaluate", "--pred", folder / "pred", "--ref", folder / "ref", "--json", *options)
        if code != 0:
            self.tell(kind, what, "rejected", f"exit {code}: " + printed.strip()[-140:])
        else:
            report, _ = json.JSONDecoder().raw_decode(printed[printed.index("{"):])
            found = report["summary"]["ET"]["dice"]["mean"]
            self.tell(kind, what, "right" if abs(found - wanted) < 1e-6 else "WRONG", f"Dice of ET {found}")
        shutil.rmtree(folder)

    def kind4(self, kind):
        truth = read_nifti(self.files["seg"])[1].astype(np.uint8)
        truth = np.where(truth == 4, 3, truth) # 2023: enhancing tumour is 3
        cavity = np.where(truth == 3, 4, truth) # 2024: a resection cavity is 4
        without = np.where(cavity == 4, 0, cavity)
        what = "2024: one case with enhancing tumour, one with a cavity"
        self.scores(kind, what, [truth, cavity], [truth, without], 1.0)
        self.scores(kind, what + ", --labels", [truth, cavity], [truth, without], 1.0, "--labels", "brats2024")
        old = np.where(truth == 3, 4, truth)
        self.scores(kind, "a folder with labels of 2018 and of 2023", [old, truth], [old, truth], 1.0)

    def kind5(self, kind):
        model = self.work / "model.safetensors"
        self.run("init", "--network", "mf-res2net", "--seed", 1, "--out", model, "--force")
        weights = self.work / "weights.safetensors"
        exchange.write_safetensors(weights, exchange.read_safetensors(model))
        code, printed = self.run("convert", weights, "--network", "mf-res2net", "--out", self.work / "in.safetensors",
                                 "--force")
        what = "weights without metadata: in which order are contrasts?"
        if code != 0:
            self.tell(kind, what, "rejected", f"exit {code}: " + printed.strip().splitlines()[-1])
        else:
            code, printed = self.run("segment", "--model", self.work / "in.safetensors", "--t1", self.files["t1"],
                                     "--t1ce", self.files["t1ce"], "--t2", self.files["t2"], "--flair",
                                     self.files["flair"], "--out", self.work / "order.nii", "--force")
            self.tell(kind, what, "WRONG" if code == 0 else "rejected", "stamped t1,t1ce,t2,flair without asking"
                      if code == 0 else f"exit {code}: " + printed.strip().splitlines()[-1])

    def kind6(self, kind):
        for spacing in (0.9, 2.0):
            step = slice(None, None, 2 if spacing == 2.0 else None)
            small = {name: voxels[step, step, step] for name, (_, voxels) in self.images.items()}
            brain = self.brain[step, step, step]
            _, plain, _ = self.segment(small, "--resample", spacing=spacing)
            for background in (-32768, -1024):
                outside = {name: np.where(brain, voxels.astype(np.float64), background)
                           for name, voxels in small.items()}
                self.labels(kind, f"--resample from {spacing} mm, background {background}", outside, "--resample",
                            expected=plain, spacing=spacing)

    def kind7(self, kind):
        folders = [self.work / f"cases{seed}" for seed in (1, 2)]
        for seed, folder in enumerate(folders):
            self.run("phantom", "--seed", seed + 1, "--size", "160,192,144", "--out", folder / f"case{seed}")
        run = self.work / "run"
        short = ("--steps", 2, "--crop", 16, "--batch", 1, "--validate-every", 0, "--quiet")
        network = self.work / "small.json"
        network.write_text('{"network": "mf-res2net", "widths": [8, 16], "decoder": [8, 4], "units": [1, 1], '
                           '"decoder_units": [1, 1]}')
        code, printed = self.run("train", "--data", folders[0], "--out", run, "--network", network, *short)
        if code != 0:
            self.tell(kind, "train", "WRONG", printed)
            return
        code, printed = self.run("train", "--data", folders[1], "--out", run, "--resume", "--steps", 4, "--quiet")
        self.tell(kind, "--resume with other data", "rejected" if code else "WRONG",
                  f"exit {code}: " + (printed.strip().splitlines() or ["nothing said"])[-1])
        code, printed = self.run("train", "--data", folders[0], "--out", self.work / "gpus", "--network", network,
                                 *short, "--gpus", "all")
        self.tell(kind, "--gpus all without a GPU", "rejected" if code else "WRONG",
                  f"exit {code}: " + (printed.strip().splitlines() or ["nothing said"])[-1])

    def kind8(self, kind):
        voxels = {name: image for name, (_, image) in self.images.items()}
        swapped = {"t1": voxels["t1ce"], "t1ce": voxels["t1"]}
        self.labels(kind, "T1 and T1ce swapped, named so", swapped, names={"t1": "x_t1ce", "t1ce": "x_t1"})
        self.labels(kind, "T1 and T1ce swapped, names say nothing", swapped, cue="T1ce",
                    names={"t1": "a", "t1ce": "b", "t2": "c", "flair": "d"})
        self.labels(kind, "T2 and FLAIR swapped, named so", {"t2": voxels["flair"], "flair": voxels["t2"]},
                    names={"t2": "x_flair", "flair": "x_t2"})
        self.labels(kind, "a segmentation given as T1", {"t1": read_nifti(self.files["seg"])[1]}, names={"t1": "x_seg"})
        self.labels(kind, "FLAIR moved by 20 voxels", {"flair": np.roll(voxels["flair"], 20, 0)})

    def kind9(self, kind):
        wild = self.images["t1ce"][1].astype(np.float64)
        wild[tuple(np.argwhere(self.brain)[self.brain.sum() // 2])] = 1e9
        self.labels(kind, "one voxel of T1ce is 1e9", {"t1ce": wild}, cue="1e")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("case", type=pathlib.Path)
    parser.add_argument("--only", type=int, choices=range(1, 10))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        wrong = Kinds(str(pathlib.Path(given.program).resolve()), given.case, pathlib.Path(work), given.only).all_kinds()
    print(f"{wrong} wrong")
    sys.exit(min(wrong, 100))


main()
