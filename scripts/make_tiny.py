"""Writes the two networks of the course into bvverify/examples: small enough to compute by hand.

``tiny.onnx`` and ``tiny.tflite`` are the same layer of two neurons, int8 in and out, with the multiplier 1/8, so that every eighth
accumulator is a tie. On the first row of ``tiny.csv`` one neuron reaches exactly -112.5, and what a runtime makes of it decides the class.

``near_tie.onnx`` is one more such layer. Its output scale was searched for: on one input of the box around the first row of
``near_tie.csv`` an accumulator times the multiplier is half a millionth away from a tie, nearer than the tolerance of an ILP solver.
``20_3_2_2_weights_0.npy`` and ``_1.npy`` are a spiking network in which 64 + 36 is the threshold; its input is ``spikes.csv``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tflite_writer import Writer


@dataclass(frozen=True)
class Layer:
    """int8 weights (2, 2), an int32 bias (2,), float32 scales and int8 zero points; the weights' zero point is 0."""

    weight: list[list[int]]
    bias: list[int]
    input_scale: float
    input_zero_point: int
    weight_scale: float
    output_scale: float
    output_zero_point: int = 0


TINY = Layer([[-10, -4], [-12, 2]], [12, 8], 0.5, 3, 0.25, 1.0)
NEAR_TIE = Layer([[-43, 28], [-81, 33]], [655, 461], 0.05, 0, 0.02, 0.054666668176651)

SPIKES = [[64.0, 36.0, 1.0], [0.0, 0.0, 101.0]], [[101.0, 0.0], [0.0, 101.0]]
"""Weights of a spiking network of 20 steps, one that reaches the threshold 100 exactly."""


def onnx_file(layer: Layer, name: str) -> ModelProto:
    """The layer as one QGemm."""

    def constant(key: str, value: object, dtype: type) -> str:
        initialisers.append(numpy_helper.from_array(np.asarray(value, dtype), key))
        return key

    initialisers: list[TensorProto] = []
    inputs = [
        "x", constant("x_scale", layer.input_scale, np.float32), constant("x_zero_point", layer.input_zero_point, np.int8),
        constant("weight", layer.weight, np.int8), constant("weight_scale", layer.weight_scale, np.float32),
        constant("weight_zero_point", 0, np.int8), constant("bias", layer.bias, np.int32),
        constant("y_scale", layer.output_scale, np.float32), constant("y_zero_point", layer.output_zero_point, np.int8),
    ]  # fmt: skip
    node = helper.make_node("QGemm", inputs, ["y"], name="dense", domain="com.microsoft", alpha=1.0, transB=1)
    x, y = (helper.make_tensor_value_info(n, TensorProto.INT8, [1, 2]) for n in ("x", "y"))
    graph = helper.make_graph([node], name, [x], [y], initialisers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, producer_name="bvverify scripts/make_tiny", ir_version=8)


def tflite_file(layer: Layer) -> bytes:
    """The layer as one FULLY_CONNECTED."""
    w = Writer()
    x = w.tensor((1, 2), layer.input_scale, layer.input_zero_point)
    weight = w.tensor((2, 2), layer.weight_scale, 0, np.array(layer.weight, np.int8))
    bias = w.tensor((2,), layer.input_scale * layer.weight_scale, 0, np.array(layer.bias, np.int32), kind="INT32")
    y = w.tensor((1, 2), layer.output_scale, layer.output_zero_point)
    none = schema.ActivationFunctionType.NONE
    w.operator("FULLY_CONNECTED", (x, weight, bias), y, "FullyConnectedOptions", version=4, fusedActivationFunction=none)
    return w.content(x, y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent.parent / "bvverify" / "examples")
    output = parser.parse_args().output
    for name, layer in (("tiny", TINY), ("near_tie", NEAR_TIE)):
        (output / f"{name}.onnx").write_bytes(onnx_file(layer, name).SerializeToString(deterministic=True))
    (output / "tiny.tflite").write_bytes(tflite_file(TINY))
    (output / "tiny.csv").write_text("83,31\n83,30\n-128,-20\n")
    (output / "near_tie.csv").write_text("-11,-60\n-13,-58\n")
    for number, weight in enumerate(SPIKES):
        np.save(output / f"20_3_2_2_weights_{number}.npy", np.array(weight)[..., None])
    (output / "spikes.csv").write_text("255,255,100\n")


if __name__ == "__main__":
    main()
