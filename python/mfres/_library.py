# SPDX-License-Identifier: MIT
"""The C interface of libmfres (mfres/mfres.h, version 1) by ctypes."""
from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import List, Optional, Union

PathLike = Union[str, "os.PathLike[str]"]
C_INTERFACE = 1
CLASSES = 4
REGIONS = 3

# Callbacks.
ProgressFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_double)
LogFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
LOG_LEVELS = {"error": 1, "warning": 2, "info": 3, "debug": 4}


class Struct(ctypes.Structure):
    """A struct that states its size, and whose other members are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.struct_size = ctypes.sizeof(self)


class Options(Struct):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("backend", ctypes.c_char_p),
        ("precision", ctypes.c_char_p),
        ("wait_policy", ctypes.c_char_p),
        ("mirror", ctypes.c_char_p),
        ("accept", ctypes.c_char_p),
        ("max_memory", ctypes.c_int64),
        ("threads", ctypes.c_int),
        ("device", ctypes.c_int),
        ("tf32", ctypes.c_int),
        ("nondeterministic", ctypes.c_int),
        ("cpus", ctypes.POINTER(ctypes.c_int)),
        ("cpu_count", ctypes.c_size_t),
        ("parallel_for", ctypes.c_void_p),
        ("parallel_data", ctypes.c_void_p),
        ("allocate", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("memory_data", ctypes.c_void_p),
        ("log", LogFunction),
        ("log_data", ctypes.c_void_p),
        ("log_level", ctypes.c_int),
        ("keep_memory", ctypes.c_int),
    ]


class Request(Struct):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("label_scheme", ctypes.c_char_p),
        ("min_enhancing_mm3", ctypes.c_double),
        ("min_component_mm3", ctypes.c_double),
        ("no_recommended_sizes", ctypes.c_int),
        ("resample", ctypes.c_int),
        ("any_contrasts", ctypes.c_int),
        ("preview_uncertainty", ctypes.c_int),
        ("progress", ProgressFunction),
        ("progress_data", ctypes.c_void_p),
    ]


class Volume(Struct):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("voxels", ctypes.c_void_p),
        ("type", ctypes.c_int32),
        ("size", ctypes.c_int64 * 3),
        ("affine", (ctypes.c_double * 4) * 3),
        ("strides", ctypes.c_int64 * 3),
        ("slope", ctypes.c_double),
        ("inter", ctypes.c_double),
    ]


class Case(Struct):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("id", ctypes.c_char_p),
        ("t1", ctypes.POINTER(Volume)),
        ("t1ce", ctypes.POINTER(Volume)),
        ("t2", ctypes.POINTER(Volume)),
        ("flair", ctypes.POINTER(Volume)),
    ]


class Files(Struct):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("id", ctypes.c_char_p),
        ("folder", ctypes.c_char_p),
        ("t1", ctypes.c_char_p),
        ("t1ce", ctypes.c_char_p),
        ("t2", ctypes.c_char_p),
        ("flair", ctypes.c_char_p),
        ("affine", ctypes.c_char_p),
    ]


class Grid(Struct):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("size", ctypes.c_int64 * 3),
        ("affine", (ctypes.c_double * 4) * 3),
    ]


class Output(Struct):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("labels", ctypes.c_void_p),
        ("labels_size", ctypes.c_size_t),
        ("probabilities", ctypes.c_void_p),
        ("probabilities_size", ctypes.c_size_t),
        ("label_file", ctypes.c_char_p),
        ("probability_file", ctypes.c_char_p),
        ("probability_format", ctypes.c_char_p),
        ("preview_file", ctypes.c_char_p),
        ("keep_existing", ctypes.c_int),
        ("class_voxels", ctypes.c_int64 * CLASSES),
        ("class_ml", ctypes.c_double * CLASSES),
        ("region_voxels", ctypes.c_int64 * REGIONS),
        ("region_ml", ctypes.c_double * REGIONS),
    ]


class MfresError(Exception):
    """A call that was rejected or failed.

    Attributes:
        code: what it is, as `mfres` names it in JSON: "modality_missing", "file_not_found" ...
        message: a sentence that names file and values, and what to do.
        place: the file, node or option that it is about; may be "".
    """

    def __init__(self, code: str, message: str, place: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.place = place


PACKAGE = Path(__file__).resolve().parent


def _candidates() -> List[Path]:
    given = os.environ.get("MFRES_LIBRARY")
    if given:
        return [Path(given)]
    return sorted((PACKAGE / "lib").glob("libmfres.so*"), key=lambda path: len(path.name))


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    text = ctypes.c_char_p
    handle = ctypes.c_void_p
    signatures = {
        "mfres_version": (text, []),
        "mfres_c_interface": (ctypes.c_int, []),
        "mfres_backend_name": (text, [ctypes.c_int]),
        "mfres_open": (handle, [text, ctypes.POINTER(Options)]),
        "mfres_open_bytes": (handle, [ctypes.c_char_p, ctypes.c_size_t, text, ctypes.POINTER(Options)]),
        "mfres_error_name": (text, [handle]),
        "mfres_error_message": (text, [handle]),
        "mfres_error_place": (text, [handle]),
        "mfres_warm_up": (ctypes.c_int, [handle, ctypes.POINTER(ctypes.c_int64)]),
        "mfres_predict": (
            ctypes.c_int,
            [handle, ctypes.POINTER(Case), ctypes.POINTER(Request), ctypes.POINTER(Output)],
        ),
        "mfres_segment": (
            ctypes.c_int,
            [handle, ctypes.POINTER(Files), ctypes.POINTER(Request), ctypes.POINTER(Output)],
        ),
        "mfres_report": (text, [handle]),
        "mfres_cancel": (None, [handle]),
        "mfres_read_grid": (ctypes.c_int, [text, text, ctypes.POINTER(Grid)]),
        "mfres_close": (None, [handle]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


def _load() -> ctypes.CDLL:
    for path in _candidates():
        library = _declare(ctypes.CDLL(str(path)))
        if library.mfres_c_interface() != C_INTERFACE:
            raise ImportError(
                f"{path} has version {library.mfres_c_interface()} of the C interface; this package needs {C_INTERFACE}"
            )
        return library
    raise ImportError(
        f"libmfres.so is not in {PACKAGE / 'lib'}: install the wheel, or set MFRES_LIBRARY to a shared build of mfres"
    )


library = _load()


def to_bytes(text: Optional[PathLike]) -> Optional[bytes]:
    """Text or a path as C takes it; None stays None."""
    return None if text is None else os.fsencode(os.fspath(text))


def last_error(handle: Optional[int]) -> MfresError:
    """The error of a handle, or with None that of this thread."""
    parts = (library.mfres_error_name, library.mfres_error_message, library.mfres_error_place)
    return MfresError(*(part(handle).decode("utf-8", "replace") for part in parts))
