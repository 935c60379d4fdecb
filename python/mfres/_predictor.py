# SPDX-License-Identifier: MIT
"""A model opened once, for many cases."""
from __future__ import annotations

import ctypes
import json
import threading
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from . import _library as c
from ._images import Image, MemoryCase, is_path
from ._library import MfresError, PathLike

Progress = Callable[[str, float], Optional[bool]]
Log = Callable[[str, str], None]

CLASS_NAMES = ("background", "necrotic core", "oedema", "enhancing tumour")
REGION_NAMES = ("WT", "TC", "ET")


@dataclass
class Segmentation:
    """What was found in a case.

    Attributes:
        labels: uint8, shape (i, j, k) of the input's grid, values of the label scheme (BraTS: 0 background, 1 necrotic
            and non-enhancing core, 2 oedema, 4 enhancing tumour).
        affine: float64, shape (4, 4), from (i, j, k, 1) to millimetres (x to the right, y to anterior, z to superior).
        probabilities: float32, shape (4, i, j, k), of the classes background, necrotic core, oedema and enhancing
            tumour, each 0 to 1; None where they were not asked for.
        volumes_ml: millilitres of each class but the background ("necrotic core", "oedema", "enhancing tumour").
        regions_ml: millilitres of the whole tumour "WT", the tumour core "TC" and the enhancing tumour "ET" (BraTS).
        report: everything worth knowing about the run, as `mfres segment --json` prints it; warnings among it.
    """

    labels: np.ndarray
    affine: np.ndarray
    probabilities: Optional[np.ndarray]
    volumes_ml: Dict[str, float]
    regions_ml: Dict[str, float]
    report: Dict[str, Any]

    @property
    def warnings(self) -> List[str]:
        return list(self.report.get("warnings", []))


class _Callbacks:
    """Functions of Python that C calls. What they raise stops the call, and is raised after it."""

    def __init__(self, progress: Optional[Progress]) -> None:
        self.raised: Optional[BaseException] = None
        self.progress = progress
        self.function = c.ProgressFunction(self._progress)

    def _progress(self, _: Any, stage: bytes, done: float) -> int:
        # Also without a function of the user: Python handles Ctrl-C when its own code runs.
        try:
            if self.progress is not None and self.progress(stage.decode(), done) is False:
                return 1
        except BaseException as error:  # noqa: BLE001 - it must not unwind through C
            self.raised = error
            return 1
        return 0


def _log_function(log: Optional[Log]) -> Any:
    if log is None:
        return c.LogFunction()
    names = {level: name for name, level in c.LOG_LEVELS.items()}

    def call(_: Any, level: int, message: bytes) -> None:
        log(names.get(level, "info"), message.decode("utf-8", "replace"))

    return c.LogFunction(call)


class Predictor:
    """A model opened once. One thread at a time may use it, but for cancel(); several may be used at once.

    Args:
        model: a model file, the name of weights that come with mfres ("mf-res2net", "mf-res2net-half",
            "mf-res2net-quarter"), or the bytes of a model file.
        backend: "auto", or a name of backends().
        precision: "auto", "f32", "bf16", "fp16" or "int8".
        threads: 0 = all CPUs this process may use.
        cpus: CPUs to which the threads are pinned in turn.
        wait_policy: of threads at barriers: "auto", "passive" or "active".
        mirror: axes along which mirror images are labelled, too, and probabilities averaged: "x", "xyz".
        accept: checks that give warnings instead of rejecting a case, e.g. ["modality_moved"].
        max_memory: bytes; 0 = no limit.
        keep_memory: arrays of a case stay for the next one.
        deterministic: False lets an engine be faster and not give equal bits in every run.
        device: which GPU of the backend, from 0.
        tf32: lets a GPU round the operands of f32 products to 10 bits.
        log: called with level ("error", "warning", "info", "debug") and message.
        log_level: messages up to it.
    Raises:
        MfresError: model_* (a damaged model file), file_not_found, backend_unknown, backend_unavailable,
            operation_unsupported, invalid_argument.
    """

    def __init__(
        self,
        model: Union[PathLike, bytes] = "mf-res2net",
        *,
        backend: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        cpus: Sequence[int] = (),
        wait_policy: str = "auto",
        mirror: str = "",
        accept: Sequence[str] = (),
        max_memory: int = 0,
        keep_memory: bool = False,
        deterministic: bool = True,
        device: int = 0,
        tf32: bool = False,
        log: Optional[Log] = None,
        log_level: str = "info",
    ) -> None:
        self._handle: Optional[int] = None
        self._lock = threading.Lock()  # of the handle's life: cancel() may come from another thread
        options = c.Options()
        options.backend = backend.encode()
        options.precision = precision.encode()
        options.wait_policy = wait_policy.encode()
        options.mirror = mirror.encode()
        options.accept = ",".join(accept).encode()
        options.max_memory = max_memory
        options.threads = threads
        options.device = device
        options.tf32 = int(tf32)
        options.nondeterministic = int(not deterministic)
        options.keep_memory = int(keep_memory)
        if cpus:
            options.cpus = (ctypes.c_int * len(cpus))(*cpus)
            options.cpu_count = len(cpus)
        if log_level not in c.LOG_LEVELS:
            raise ValueError(f"log_level is {log_level!r}; there are " + ", ".join(c.LOG_LEVELS))
        self._log = options.log = _log_function(log)  # kept as long as the handle
        options.log_level = c.LOG_LEVELS[log_level]
        if isinstance(model, (bytes, bytearray)):
            content = bytes(model)
            handle = c.library.mfres_open_bytes(content, len(content), None, ctypes.byref(options))
        else:
            handle = c.library.mfres_open(c.to_bytes(model), ctypes.byref(options))
        if not handle:
            raise c.last_error(None)
        self._handle = handle

    def close(self) -> None:
        """Frees the model. Not while a call is running."""
        with self._lock:
            handle, self._handle = self._handle, None
        if handle:
            c.library.mfres_close(handle)

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()

    def _open(self) -> int:
        if not self._handle:
            raise ValueError("this Predictor is closed")
        return self._handle

    def warm_up(self, brain_size: Tuple[int, int, int]) -> None:
        """Prepares for brains of that extent in voxels along x (left and right), y and z: compiles the network and runs it
        once on zeros."""
        size = (ctypes.c_int64 * 3)(*brain_size)
        if c.library.mfres_warm_up(self._open(), size) != 0:
            raise c.last_error(self._handle)

    def cancel(self) -> None:
        """Stops the call that is running, which then raises MfresError "interrupted". From any thread."""
        with self._lock:
            if self._handle:
                c.library.mfres_cancel(self._handle)

    def segment(
        self,
        t1: Optional[Image] = None,
        t1ce: Optional[Image] = None,
        t2: Optional[Image] = None,
        flair: Optional[Image] = None,
        *,
        folder: Optional[PathLike] = None,
        affine: Optional[Any] = None,
        case_id: Optional[str] = None,
        probabilities: bool = False,
        resample: bool = False,
        label_scheme: Optional[str] = None,
        min_enhancing_mm3: Optional[float] = None,
        min_component_mm3: Optional[float] = None,
        any_contrasts: bool = False,
        affine_source: str = "auto",
        out: Optional[PathLike] = None,
        probabilities_out: Optional[PathLike] = None,
        probabilities_type: str = "float32",
        preview: Optional[PathLike] = None,
        preview_uncertainty: bool = False,
        overwrite: bool = True,
        progress: Optional[Progress] = None,
    ) -> Segmentation:
        """Segments the tumour in four contrasts on one grid, co-registered and skull-stripped, about 1 mm voxels.

        Args:
            t1, t1ce, t2, flair: each a path (.nii, .nii.gz), an array (i, j, k) of any of NumPy's integers or floats, a
                tuple (array, affine), or an image of nibabel. None = absent, which a model accepts that was trained for
                it. Either all are paths or none is.
            folder: in place of the four: a folder with BraTS file names.
            affine: of arrays that have none: (4, 4) or (3, 4), from (i, j, k, 1) to millimetres (x to the right, y to
                anterior, z to superior).
            case_id: for messages and the report; default: the name of the folder of the files, or "".
            probabilities: also return the probability of every class.
            resample: accept voxels that are not about 1 mm: resample in, and the labels back out.
            label_scheme: "brats" (0, 1, 2, 4), "brats2023" (0, 1, 2, 3) ..., or a mapping "1:ncr,2:ed,3:et"; default:
                the model's.
            min_enhancing_mm3: less enhancing tumour than that in all becomes necrotic core; 0 = never; None = as the
                model file recommends.
            min_component_mm3: smaller connected components, except the largest, are removed; likewise.
            any_contrasts: accept any contrasts that are there, also those that the model was not trained for.
            affine_source: of files whose header has both: "auto" (they must agree), "sform" or "qform".
            out: label map to write (.nii or .nii.gz).
            probabilities_out: 4-D file of probabilities to write; probabilities_type: "float32" or "uint8".
            preview: picture to write (.png); preview_uncertainty: draw where the network is not sure.
            overwrite: False = MfresError "file_exists" where one of these files is there already.
            progress: called with the name of the stage and the share of it that is done, 0 to 1; False stops.
        Returns:
            Segmentation, its arrays in Fortran order.
        Raises:
            MfresError: what is wrong with the images, e.g. "modality_missing", "grid_size_mismatch",
                "voxel_size_out_of_range", "brain_implausible"; "interrupted".
            ValueError: arguments that are no images.
        """
        handle = self._open()
        request = self._request(label_scheme, min_enhancing_mm3, min_component_mm3)
        request.resample = int(resample)
        request.any_contrasts = int(any_contrasts)
        request.preview_uncertainty = int(preview_uncertainty)
        callbacks = _Callbacks(progress)
        request.progress = callbacks.function
        output = c.Output()
        output.label_file = c.to_bytes(out)
        output.probability_file = c.to_bytes(probabilities_out)
        output.probability_format = probabilities_type.encode()
        output.preview_file = c.to_bytes(preview)
        output.keep_existing = int(not overwrite)

        images = (t1, t1ce, t2, flair)
        given = [image for image in images if image is not None]
        if folder is not None and given:
            raise ValueError("give a folder or images, not both")
        paths = [image for image in given if is_path(image)]
        if paths and len(paths) != len(given):
            raise ValueError("give all images as paths, or none of them")
        if folder is not None or paths:
            if affine is not None:
                raise ValueError("affine is that of arrays; files have their own")
            files, size, matrix = _files(images, folder, case_id, affine_source)
            labels, values = _memory(size, probabilities, output)
            status = c.library.mfres_segment(
                handle, ctypes.byref(files), ctypes.byref(request), ctypes.byref(output)
            )
        else:
            case = MemoryCase(images, affine, case_id or "")
            size, matrix = case.size, case.affine
            labels, values = _memory(size, probabilities, output)
            status = c.library.mfres_predict(
                handle, ctypes.byref(case.case), ctypes.byref(request), ctypes.byref(output)
            )
        if callbacks.raised is not None:
            raise callbacks.raised
        if status != 0:
            raise c.last_error(handle)
        return Segmentation(
            labels=labels,
            affine=matrix,
            probabilities=values,
            volumes_ml={name: output.class_ml[n] for n, name in enumerate(CLASS_NAMES) if n > 0},
            regions_ml={name: output.region_ml[n] for n, name in enumerate(REGION_NAMES)},
            report=json.loads(c.library.mfres_report(handle)),
        )

    @staticmethod
    def _request(scheme: Optional[str], enhancing: Optional[float], component: Optional[float]) -> c.Request:
        request = c.Request()
        request.label_scheme = None if scheme is None else scheme.encode()
        if (enhancing == 0) != (component == 0) and None in (enhancing, component):
            raise ValueError("a size of 0 turns off what the model recommends for both: give min_enhancing_mm3 and "
                             "min_component_mm3")
        request.no_recommended_sizes = int(enhancing == 0 or component == 0)
        request.min_enhancing_mm3 = enhancing or 0.0
        request.min_component_mm3 = component or 0.0
        return request


def _files(
    images: Sequence[Any], folder: Optional[PathLike], case_id: Optional[str], affine_source: str
) -> Tuple[c.Files, Tuple[int, int, int], np.ndarray]:
    """Files as C describes them, and the grid of the first of them."""
    files = c.Files()
    files.id = c.to_bytes(case_id)
    files.folder = c.to_bytes(folder)
    files.t1, files.t1ce, files.t2, files.flair = (c.to_bytes(image) for image in images)
    files.affine = affine_source.encode()
    first = folder if folder is not None else next(image for image in images if image is not None)
    grid = c.Grid()
    if c.library.mfres_read_grid(c.to_bytes(first), files.affine, ctypes.byref(grid)) != 0:
        raise c.last_error(None)
    matrix = np.eye(4)
    for row in range(3):
        matrix[row] = list(grid.affine[row])
    return files, (grid.size[0], grid.size[1], grid.size[2]), matrix


def _memory(
    size: Tuple[int, int, int], probabilities: bool, output: c.Output
) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """Arrays for the results, of which `output` tells C."""
    labels = np.zeros(size, dtype=np.uint8, order="F")
    output.labels = labels.__array_interface__["data"][0] if labels.size else None
    output.labels_size = labels.size
    if not probabilities:
        return labels, None
    memory = np.zeros((*size, c.CLASSES), dtype=np.float32, order="F")
    output.probabilities = memory.__array_interface__["data"][0] if memory.size else None
    output.probabilities_size = memory.size
    return labels, np.moveaxis(memory, 3, 0)


def backends() -> List[str]:
    """Names of the backends that work here, the fastest first."""
    names: List[str] = []
    while True:
        name = c.library.mfres_backend_name(len(names))
        if name is None:
            return names
        names.append(name.decode())
