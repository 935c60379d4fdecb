# SPDX-License-Identifier: MIT
"""Checks an ONNX file with one other program: run_onnx.py RUNTIME MODEL TENSORS TOLERANCE

RUNTIME: checker (onnx.checker with shape inference), onnxruntime, openvino or opencv. TENSORS: safetensors with "input"
and "output". Fails if the runtime's output differs from "output" by more than TOLERANCE anywhere.
"""

import os
import sys

import numpy

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train"))
from exchange import read_safetensors  # noqa: E402


def run_checker(model, _):
    import onnx

    onnx.checker.check_model(model, full_check=True)
    loaded = onnx.load(model)
    assert [value.name for value in loaded.graph.input] == ["input"]
    assert loaded.graph.output[0].name == "logits"
    assert "Research use only" in loaded.doc_string
    return None


def run_onnxruntime(model, x):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]


def run_openvino(model, x):
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    return list(compiled.create_infer_request().infer({0: x}).values())[0]


def run_opencv(model, x):
    import cv2

    cv2.setNumThreads(1)
    net = cv2.dnn.readNetFromONNX(model)
    if hasattr(net, "enableWinograd"):  # as in test_onnx_export.cpp
        net.enableWinograd(False)
    net.setInput(x)
    return net.forward()


def main():
    runtime, model, tensors, tolerance = sys.argv[1:5]
    tensors = read_safetensors(tensors)
    output = globals()["run_" + runtime](model, tensors["input"])
    if output is None:
        return
    expected = tensors["output"]
    assert output.shape == expected.shape, (output.shape, expected.shape)
    difference = float(numpy.abs(output - expected).max())
    print(runtime, "differs by", difference, "at most")
    assert difference <= float(tolerance), difference


main()
