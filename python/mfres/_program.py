# SPDX-License-Identifier: MIT
"""The program mfres that comes with the package, and what it does as functions."""
from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ._library import PACKAGE, MfresError, PathLike


def program() -> Path:
    """The program's file: $MFRES_PROGRAM, or that of the package."""
    return Path(os.environ.get("MFRES_PROGRAM") or PACKAGE / "bin" / "mfres")


def run(*arguments: Union[PathLike, int, float]) -> Any:
    """Runs the program with --json --quiet and returns what it prints, parsed.

    Args:
        arguments: a command and its options as on the command line: run("complexity", "--network", "mf-res2net").
    Raises:
        MfresError: the program's error.
    """
    words = [str(program())] + [os.fspath(a) if isinstance(a, os.PathLike) else str(a) for a in arguments]
    done = subprocess.run([*words, "--json", "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    text = done.stdout.decode("utf-8", "replace")
    try:
        answer = json.loads(text) if text.strip() else None
    except json.JSONDecodeError:
        answer = None
    if done.returncode == 0:
        return answer
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        error = answer["error"]
        raise MfresError(error.get("code", "internal"), error.get("message", ""), error.get("where", ""))
    raise MfresError("internal", done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}")


def _options(values: Mapping[str, Any]) -> List[str]:
    """Keywords as options: threads=2 is --threads 2, force=True is --force, drop=["t1", "t2"] is --drop t1 --drop t2."""
    words: List[str] = []
    for key, value in values.items():
        name = "--" + key.rstrip("_").replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            words.append(name)
        elif isinstance(value, (list, tuple)):
            for one in value:
                words += [name, str(one)]
        else:
            words += [name, str(value)]
    return words


def evaluate(
    pred: Optional[PathLike] = None,
    ref: Optional[PathLike] = None,
    *,
    model: Optional[PathLike] = None,
    data: Optional[PathLike] = None,
    regions: str = "brats",
    scheme: str = "server2019",
    out: Optional[PathLike] = None,
    **options: Any,
) -> Dict[str, Any]:
    """Measures how well labels agree with a reference: Dice, sensitivity, specificity (0 to 1) and HD95 (mm) of whole
    tumour, tumour core and enhancing tumour.

    Args:
        pred, ref: folders of label maps and of references; or
        data: a folder of cases with a segmentation, or a training cache, on which `model` is run.
        regions: "brats" (WT 1 2 4, TC 1 4, ET 4) or "paper" (WT 1 2, TC 1, ET 4).
        scheme: for empty regions: "server2019" or "brats2020".
        out: folder for cases.csv, summary.json and table.md.
        options: further options of `mfres evaluate`, e.g. threads=2, labels="brats2023", force=True.
    Returns:
        what `mfres evaluate --json` prints: "summary" and "cases" among it.
    """
    given = dict(pred=pred, ref=ref, model=model, data=data, regions=regions, scheme=scheme, out=out, **options)
    return run("evaluate", *_options(given))


def complexity(
    network: Union[None, str, Mapping[str, Any], Sequence[Union[str, Mapping[str, Any]]]] = None,
    *,
    size: Union[int, Tuple[int, int, int]] = 128,
    batch: int = 1,
    per_layer: bool = False,
) -> Any:
    """Counts parameters, operations (multiply-accumulates and FLOPs) and memory (bytes) of networks.

    Args:
        network: the name of a registered network, a variant as a dict, or a list of these; None = all networks of the
            paper's table.
        size: voxels of the input, one number or three.
        batch: cases per inference.
        per_layer: every layer instead of every stage.
    Returns:
        what `mfres complexity --json` prints.
    """
    if network is None:
        networks: Sequence[Union[str, Mapping[str, Any]]] = []
    elif isinstance(network, (str, Mapping)):
        networks = [network]
    else:
        networks = network
    words = [one if isinstance(one, str) else json.dumps(one) for one in networks]
    extent = str(size) if isinstance(size, int) else ",".join(str(n) for n in size)
    return run("complexity", *_options(dict(network=words, size=extent, batch=batch, per_layer=per_layer)))


def convert(source: PathLike, out: PathLike, **options: Any) -> Any:
    """Brings models in and out: a model file, ONNX, PyTorch's checkpoints or safetensors to a model file or ONNX.

    Args:
        source: .safetensors, .ckpt, .onnx, .pt or .pth.
        out: .safetensors or .onnx.
        options: those of `mfres convert`, e.g. dtype="bf16", network="mf-res2net", force=True.
    Returns:
        what `mfres convert --json` prints.
    """
    return run("convert", source, *_options(dict(out=out, **options)))
