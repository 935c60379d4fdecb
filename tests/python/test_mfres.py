# SPDX-License-Identifier: MIT
"""The Python package against the program: the same labels, bit for bit, however the images are given."""
import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

import numpy as np

import mfres

CONTRASTS = ("t1", "t1ce", "t2", "flair")
THREADS = 2


def read_nifti(path):
    """Voxels (i, j, k) and affine of a NIfTI-1 file with an sform, by hand: nibabel is no dependency."""
    data = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    dim = np.frombuffer(data, "<i2", 8, 40)
    code = int(np.frombuffer(data, "<i2", 1, 70)[0])
    offset = int(np.frombuffer(data, "<f4", 1, 108)[0])
    affine = np.eye(4)
    affine[:3] = np.frombuffer(data, "<f4", 12, 280).reshape(3, 4)
    kind = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 512: "<u2"}[code]
    shape = tuple(int(n) for n in dim[1 : 1 + dim[0]])
    voxels = np.frombuffer(data, kind, int(np.prod(shape)), offset)
    return voxels.reshape(shape, order="F"), affine


class Image:
    """What of nibabel's images is used."""

    class Proxy:
        def __init__(self, stored, slope, inter):
            self.stored, self.slope, self.inter = stored, slope, inter

        def get_unscaled(self):
            return self.stored

        def __array__(self, dtype=None):
            return np.asarray(self.stored * self.slope + self.inter, dtype)

    def __init__(self, stored, affine, slope=1.0, inter=0.0):
        self.dataobj, self.affine = self.Proxy(stored, slope, inter), affine


class MfresTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        root = Path(cls.folder.name)
        cls.root = root
        network = {"network": "mf-res2net", "widths": [8, 16, 24, 32], "decoder": [16, 8, 8, 4]}
        cls.model = root / "model.safetensors"
        mfres.run("init", "--seed", 1, "--out", cls.model, "--network", json.dumps(network))
        mfres.run("phantom", "--seed", 3, "--size", "152,184,152", "--out", root / "case")
        cls.paths = {name: next((root / "case").glob(f"*_{name}.nii*")) for name in CONTRASTS}
        mfres.run("segment", "--model", cls.model, "--case", root / "case", "--threads", THREADS, "--out",
                  root / "wanted.nii.gz", "--probabilities", root / "wanted_p.nii.gz")
        cls.wanted, cls.affine = read_nifti(root / "wanted.nii.gz")
        cls.arrays = {name: read_nifti(path)[0] for name, path in cls.paths.items()}
        cls.predictor = mfres.Predictor(cls.model, threads=THREADS)

    @classmethod
    def tearDownClass(cls):
        cls.predictor.close()
        cls.folder.cleanup()

    def check(self, found):
        np.testing.assert_array_equal(found.labels, self.wanted)
        np.testing.assert_allclose(found.affine, self.affine, atol=1e-5)

    def test_the_example_labels_as_the_program(self):
        volumes = []
        for name, path in self.paths.items():
            data = path.read_bytes()
            volumes.append(self.root / f"example_{name}.nii")
            volumes[-1].write_bytes(gzip.decompress(data) if path.name.endswith(".gz") else data)
        example = Path(__file__).parents[2] / "examples" / "python" / "segment.py"
        labels = self.root / "example.raw"
        shown = subprocess.run([sys.executable, example, self.model, *volumes, labels], check=True, capture_output=True,
                               text=True)
        self.assertIn("WT: ", shown.stdout)
        np.testing.assert_array_equal(np.fromfile(labels, np.uint8).reshape(self.wanted.shape, order="F"), self.wanted)

    def test_paths_arrays_and_images(self):
        self.assertGreater(int((self.wanted > 0).sum()), 0)
        self.check(mfres.segment(**self.paths, model=self.model, threads=THREADS))
        self.check(mfres.segment(**{name: str(path) for name, path in self.paths.items()}, model=self.model,
                                 threads=THREADS))
        self.check(self.predictor.segment(folder=self.root / "case"))
        self.check(self.predictor.segment(**self.arrays, affine=self.affine))
        pairs = {name: (array, self.affine[:3]) for name, array in self.arrays.items()}
        self.check(self.predictor.segment(**pairs))
        images = {name: Image(array, self.affine) for name, array in self.arrays.items()}
        self.check(self.predictor.segment(**images))

    def test_memory_orders_and_types(self):
        copies = dict(self.arrays)
        copies["t1"] = np.ascontiguousarray(copies["t1"])
        copies["t1ce"] = np.asfortranarray(copies["t1ce"])[::-1][::-1]  # a view with the strides of a copy
        copies["t2"] = copies["t2"].astype(copies["t2"].dtype.newbyteorder(">"))
        copies["flair"] = np.asfortranarray(copies["flair"], dtype=np.float64)
        self.check(self.predictor.segment(**copies, affine=self.affine))
        flipped = {name: (array[::-1], self.affine @ np.diag([-1.0, 1, 1, 1]) + np.array(
            [[0, 0, 0, self.affine[0, 0] * (array.shape[0] - 1)], [0] * 4, [0] * 4, [0] * 4]))
            for name, array in self.arrays.items()}
        found = self.predictor.segment(**flipped)
        np.testing.assert_array_equal(found.labels[::-1], self.wanted)

    def test_scaling_of_images(self):
        stored = {name: np.round(array).astype(np.int16) for name, array in self.arrays.items()}
        plain = self.predictor.segment(**stored, affine=self.affine)
        scaled = self.predictor.segment(
            **{name: Image(array, self.affine, 0.5, 3.0) for name, array in stored.items()})
        values = {name: (array * np.float64(0.5) + 3.0).astype(np.float32) for name, array in stored.items()}
        same = self.predictor.segment(**values, affine=self.affine)
        np.testing.assert_array_equal(scaled.labels, same.labels)
        self.assertEqual(plain.labels.shape, same.labels.shape)

    def test_probabilities_volumes_report_and_files(self):
        out = self.root / "out.nii.gz"
        found = self.predictor.segment(**self.arrays, affine=self.affine, probabilities=True, out=out, case_id="seven",
                                       probabilities_out=self.root / "out_p.nii.gz")
        self.check(found)
        np.testing.assert_array_equal(read_nifti(out)[0], self.wanted)
        in_file = read_nifti(self.root / "wanted_p.nii.gz")[0]
        np.testing.assert_array_equal(read_nifti(self.root / "out_p.nii.gz")[0], in_file)
        self.assertEqual(found.probabilities.shape, (4, *self.wanted.shape))
        np.testing.assert_allclose(found.probabilities.sum(axis=0), 1.0, atol=1e-5)
        np.testing.assert_allclose(np.moveaxis(found.probabilities, 0, 3), in_file, atol=1e-3)
        millilitres = 1e-3 * abs(np.linalg.det(self.affine[:3, :3]))
        self.assertAlmostEqual(found.regions_ml["WT"], millilitres * int((self.wanted > 0).sum()), 3)
        self.assertAlmostEqual(found.volumes_ml["oedema"], millilitres * int((self.wanted == 2).sum()), 3)
        self.assertEqual(found.report["case"], "seven")
        self.assertEqual(found.report["output"], str(out))
        with self.assertRaises(mfres.MfresError) as raised:
            self.predictor.segment(**self.arrays, affine=self.affine, out=out, overwrite=False)
        self.assertEqual((raised.exception.code, raised.exception.place), ("file_exists", str(out)))

    def test_model_from_bytes_and_by_name(self):
        with mfres.Predictor(self.model.read_bytes(), threads=THREADS) as predictor:
            self.check(predictor.segment(**self.arrays, affine=self.affine))
        messages = []
        with mfres.Predictor("mf-res2net-quarter", log=lambda level, text: messages.append((level, text))):
            pass  # the weights that come with mfres
        self.assertEqual(messages[0][0], "info")
        self.assertIn("quarter", messages[0][1])
        self.assertIn(mfres.backends()[0], ("native", "onednn", "opencv", "reference", "cuda"))

    def test_errors(self):
        with self.assertRaises(mfres.MfresError) as raised:
            mfres.Predictor("no-such-weights")
        self.assertEqual(raised.exception.code, "file_not_found")
        with self.assertRaises(mfres.MfresError) as raised:
            self.predictor.segment(t1=(self.arrays["t1"], self.affine))
        self.assertEqual(raised.exception.code, "modality_missing")
        with self.assertRaises(mfres.MfresError) as raised:
            self.predictor.segment(t1=self.root / "nothing.nii")
        self.assertEqual(raised.exception.code, "file_not_found")
        for wrong in (
            dict(self.arrays),  # no affine
            dict(self.arrays, affine=np.eye(3)),
            dict(self.arrays, t1=self.arrays["t1"][0], affine=self.affine),
            dict(self.arrays, t1=self.arrays["t1"].astype(np.complex64), affine=self.affine),
            dict(self.arrays, t1=self.paths["t1"], affine=self.affine),
            dict(self.paths, affine=self.affine),
            dict(self.paths, folder=self.root),
        ):
            with self.assertRaises(ValueError):
                self.predictor.segment(**wrong)
        self.check(self.predictor.segment(**self.paths))
        closed = mfres.Predictor(self.model)
        closed.close()
        with self.assertRaises(ValueError):
            closed.segment(**self.paths)

    def test_progress_and_stopping(self):
        stages = []
        self.check(self.predictor.segment(**self.paths, progress=lambda stage, done: stages.append((stage, done))))
        self.assertIn("network", [stage for stage, _ in stages])
        self.assertTrue(all(0.0 <= done <= 1.0 for _, done in stages))
        with self.assertRaises(mfres.MfresError) as raised:
            self.predictor.segment(**self.paths, progress=lambda stage, done: stage != "network")
        self.assertEqual(raised.exception.code, "interrupted")

        def fail(stage, done):
            raise RuntimeError("mine")

        with self.assertRaisesRegex(RuntimeError, "mine"):
            self.predictor.segment(**self.paths, progress=fail)
        # A process that a shell started in the background ignores Ctrl-C.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        with self.assertRaises(KeyboardInterrupt):
            self.predictor.segment(
                **self.paths, progress=lambda stage, done: os.kill(os.getpid(), signal.SIGINT) or time.sleep(0.01))
        stopper = []

        def cancel_from_thread(stage, done):
            if stage == "network" and not stopper:
                stopper.append(threading.Thread(target=self.predictor.cancel))
                stopper[0].start()
                stopper[0].join()

        with self.assertRaises(mfres.MfresError) as raised:
            self.predictor.segment(**self.paths, progress=cancel_from_thread)
        self.assertEqual(raised.exception.code, "interrupted")
        self.predictor.warm_up((60, 70, 50))
        self.check(self.predictor.segment(**self.paths))

    def test_program(self):
        counted = mfres.complexity("mf-res2net", size=(64, 64, 64))
        self.assertEqual(counted["name"], "mf-res2net")
        self.assertEqual(mfres.complexity({"network": "mf-res2net", "widths": [8, 16, 24, 32],
                                           "decoder": [16, 8, 8, 4]})["network"], "mf-res2net")
        (self.root / "pred").mkdir(exist_ok=True)
        (self.root / "ref").mkdir(exist_ok=True)
        for name in ("pred", "ref"):
            (self.root / name / "case.nii.gz").write_bytes((self.root / "wanted.nii.gz").read_bytes())
        measured = mfres.evaluate(self.root / "pred", self.root / "ref", labels="brats")
        self.assertEqual(measured["summary"]["WT"]["dice"]["mean"], 1.0)
        mfres.convert(self.model, self.root / "half.safetensors", dtype="f16")
        self.assertLess((self.root / "half.safetensors").stat().st_size, self.model.stat().st_size)
        with self.assertRaises(mfres.MfresError) as raised:
            mfres.convert(self.root / "none.safetensors", self.root / "x.safetensors")
        self.assertEqual(raised.exception.code, "file_not_found")
        done = subprocess.run([sys.executable, "-m", "mfres", "--version"], stdout=subprocess.PIPE, check=True)
        self.assertIn(mfres.__version__, done.stdout.decode())


if __name__ == "__main__":
    unittest.main()
