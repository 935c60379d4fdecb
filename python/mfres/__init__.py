# SPDX-License-Identifier: MIT
"""Brain tumour segmentation in multi-modal MRI with MF-RES2Net on ordinary machines.

    import mfres

    result = mfres.segment(t1="t1.nii.gz", t1ce="t1ce.nii.gz", t2="t2.nii.gz", flair="flair.nii.gz")
    result.labels                      # uint8 (i, j, k): 0 background, 1 core, 2 oedema, 4 enhancing tumour
    result.regions_ml                  # {"WT": ..., "TC": ..., "ET": ...}, millilitres

    with mfres.Predictor("mf-res2net-half", threads=4) as predictor:     # a model opened once, for many cases
        for case in cases:
            predictor.segment(t1=(t1, affine), t1ce=(t1ce, affine), t2=(t2, affine), flair=(flair, affine))

Research use only: not a medical device.
"""
from __future__ import annotations

from typing import Any, Optional, Union

from ._images import Image
from ._library import MfresError, library as _shared_library
from ._predictor import Log, PathLike, Predictor, Progress, Segmentation, backends
from ._program import complexity, convert, evaluate, program, run

__version__: str = _shared_library.mfres_version().decode()

__all__ = [
    "Image",
    "Log",
    "MfresError",
    "Predictor",
    "Progress",
    "Segmentation",
    "backends",
    "complexity",
    "convert",
    "evaluate",
    "program",
    "run",
    "segment",
]

_OF_PREDICTOR = (
    "backend precision threads cpus wait_policy mirror accept max_memory deterministic device tf32 log log_level"
).split()


def segment(
    t1: Optional[Image] = None,
    t1ce: Optional[Image] = None,
    t2: Optional[Image] = None,
    flair: Optional[Image] = None,
    *,
    model: Union[PathLike, bytes] = "mf-res2net",
    **options: Any,
) -> Segmentation:
    """Segments one case. For several cases open a Predictor once.

    Args:
        t1, t1ce, t2, flair: as in Predictor.segment: paths, arrays (i, j, k) with affine=, tuples (array, affine), or
            images of nibabel.
        model: as in Predictor.
        options: those of Predictor (threads=4) and of Predictor.segment (probabilities=True).
    Returns:
        Segmentation: labels, affine, probabilities, volumes in millilitres, report.
    Raises:
        MfresError, ValueError: as Predictor and Predictor.segment.
    """
    of_predictor = {name: options.pop(name) for name in _OF_PREDICTOR if name in options}
    with Predictor(model, **of_predictor) as predictor:
        return predictor.segment(t1, t1ce, t2, flair, **options)
