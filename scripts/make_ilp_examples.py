"""Writes the two networks into bvverify/examples on which an ILP reading and the device part, each with its input.

``ilp_tie.onnx``: one layer, the multiplier 1/2. At x = 5 the second neuron's real number is 2.5: ONNX Runtime rounds it to 2, so that the
first class wins, and an ILP that rounds half up to 3, so that the second does. No other input of the box around ``ilp_tie.csv``
violates robustness, so that the ILP calls it robust.

``ilp_big_m.onnx``: two hidden neurons that add up to 2 wherever the input is 2, 3 or 4, so that the network is robust there. At 2 the first
neuron's real number is 0.2. With a big M of 10^6 a binary of 3e-7, which any solver counts as 0, makes a 1 of that, the sum 3, and a
counterexample that does not exist.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

TIE = [([[0], [1]], [4, 0], 0.5)]
BIG_M = [([[100], [-100]], [-180, 420], 0.01), ([[0, 0], [10, 10]], [300, 280], 0.1)]
"""Layers: int8 weights, int32 biases, the scale of the weights. All other scales are 1, zero points 0, and tensors uint8."""


def onnx_file(layers: list[tuple[list[list[int]], list[int], float]], name: str) -> ModelProto:
    """A chain of QGemm."""
    initialisers, nodes, read = [], [], "x"
    for index, (weight, bias, scale) in enumerate(layers):

        def constant(key: str, value: object, dtype: str, index: int = index) -> str:
            initialisers.append(numpy_helper.from_array(np.asarray(value, dtype), f"{key}{index}"))
            return f"{key}{index}"

        inputs = [
            read, constant("x_scale", 1, "float32"), constant("x_zero", 0, "uint8"),
            constant("w", weight, "int8"), constant("w_scale", scale, "float32"), constant("w_zero", 0, "int8"),
            constant("b", bias, "int32"), constant("y_scale", 1, "float32"), constant("y_zero", 0, "uint8"),
        ]  # fmt: skip
        last = index == len(layers) - 1
        made = "y" if last else f"hidden{index}"
        layer = "output" if last else f"hidden{index}"
        nodes.append(helper.make_node("QGemm", inputs, [made], name=layer, domain="com.microsoft", alpha=1.0, transB=1))
        read = made
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [1, len(layers[0][0][0])])
    y = helper.make_tensor_value_info("y", TensorProto.UINT8, [1, len(layers[-1][0])])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, name, [x], [y], initialisers)
    return helper.make_model(graph, opset_imports=opsets, producer_name="bvverify scripts/make_ilp_examples", ir_version=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent.parent / "bvverify" / "examples")
    output = parser.parse_args().output
    for name, layers, x in (("ilp_tie", TIE, 6), ("ilp_big_m", BIG_M, 3)):
        (output / f"{name}.onnx").write_bytes(onnx_file(layers, name).SerializeToString(deterministic=True))
        (output / f"{name}.csv").write_text(f"{x}\n")


if __name__ == "__main__":
    main()
