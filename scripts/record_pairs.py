"""Records what ONNX Runtime computes on an x86 CPU without VNNI: small layers with their inputs and outputs, as one .npz.

    qemu-x86_64 -cpu Haswell-noTSX python scripts/record_pairs.py tests/differential/pairs.npz

The emulator (QEMU 7.2 or later, user mode) stands in for a CPU without VNNI on a machine that has it; the script refuses to record where
pairs of products do not saturate. Deterministic: the same runtime gives the same file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

DENSE = [(2, 5), (3, 5), (8, 5), (31, 6), (100, 4)]
"""Inputs and outputs."""
CONVOLUTIONS = [
    # channels in and out, kernel, groups, padding, strides, dilations, size of the image
    (1, 4, (3, 3), 1, (0, 0, 0, 0), (1, 1), (1, 1), 6),
    (3, 4, (3, 3), 1, (1, 1, 1, 1), (1, 1), (1, 1), 6),
    (4, 8, (3, 3), 1, (1, 1, 1, 1), (2, 2), (1, 1), 7),
    (4, 4, (3, 3), 1, (2, 2, 2, 2), (1, 1), (2, 2), 6),
    (3, 5, (1, 1), 1, (0, 0, 0, 0), (1, 1), (1, 1), 6),
    (2, 3, (3, 1), 1, (0, 0, 1, 0), (2, 1), (1, 1), 6),
    (16, 8, (3, 3), 1, (1, 1, 1, 1), (1, 1), (1, 1), 4),
    (6, 6, (3, 3), 2, (0, 1, 2, 1), (2, 1), (1, 1), 7),
    (9, 9, (3, 3), 3, (1, 1, 1, 1), (1, 1), (1, 1), 5),
    (4, 8, (3, 3), 4, (1, 1, 1, 1), (1, 1), (1, 1), 6),
    (4, 4, (3, 3), 4, (1, 1, 1, 1), (1, 1), (1, 1), 6),
    (1, 1, (3, 3), 1, (1, 1, 1, 1), (1, 1), (1, 1), 8),
]
INPUTS = 20


class Layer:
    """One layer as a model: uint8 activations, int8 weights at which pairs saturate often."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.constants = rng, []

    def constant(self, name: str, value: object, dtype: type) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def model(self, op: str, x: list[int], weight: tuple[int, ...], channels: int, **attributes: object) -> bytes:
        weights = self.constant("w", self.rng.choice([-128, -100, -60, 30, 90, 127], weight), np.int8)
        products = int(np.prod(weight)) // channels
        activation = ["x", self.constant("xs", 0.01, np.float32), self.constant("xz", self.rng.choice([0, 37, 128, 255]), np.uint8)]
        weights_as = [weights, self.constant("ws", 0.01, np.float32), self.constant("wz", 0, np.int8)]
        scale = self.constant("ys", 0.2048 * max(1.0, products / 16) ** 0.5, np.float32)
        result, bias = [scale, self.constant("yz", 128, np.uint8)], [self.constant("b", self.rng.integers(-5000, 5000, channels), np.int32)]
        order = {"QGemm": bias + result, "QLinearMatMul": result, "QLinearConv": result + bias}[op]
        domain = "com.microsoft" if op == "QGemm" else ""
        node = helper.make_node(op, activation + weights_as + order, ["y"], name="layer", domain=domain, **attributes)
        ends = helper.make_tensor_value_info("x", TensorProto.UINT8, x), helper.make_tensor_value_info("y", TensorProto.UINT8, None)
        graph = helper.make_graph([node], "layer", ends[:1], ends[1:], self.constants)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString(deterministic=True)


def models() -> dict[str, bytes]:
    rng, out = np.random.default_rng(1), {}
    for k, n in DENSE:
        for op in ("QGemm", "QLinearMatMul"):
            out[f"{op}_{k}x{n}"] = Layer(rng).model(op, [1, k], (k, n), n)
    for i, (inputs, outputs, kernel, groups, pads, strides, dilations, size) in enumerate(CONVOLUTIONS):
        attributes = {"kernel_shape": kernel, "group": groups, "pads": pads, "strides": strides, "dilations": dilations}
        weight = (outputs, inputs // groups, *kernel)
        out[f"QLinearConv_{i}"] = Layer(rng).model("QLinearConv", [1, inputs, size, size], weight, outputs, **attributes)
    return out


def ask(model: bytes, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": one[None]})[0] for one in x])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    rng, arrays = np.random.default_rng(2), {"onnxruntime": np.array(ort.__version__)}
    for name, content in models().items():
        shape = [d.dim_value for d in onnx.load_from_string(content).graph.input[0].type.tensor_type.shape.dim]
        x = rng.choice([0, 37, 60, 128, 200, 255], (INPUTS, *shape[1:])).astype(np.uint8)
        arrays |= {f"{name}/model": np.frombuffer(content, np.uint8), f"{name}/x": x, f"{name}/y": ask(content, x)}
    if saturating_accumulator() != 32767:
        raise SystemExit("this CPU does not saturate pairs; run under qemu-x86_64 -cpu Haswell-noTSX")
    np.savez_compressed(output, **arrays)
    print(f"{output}: {output.stat().st_size} bytes, {sum(v.size for k, v in arrays.items() if k.endswith('/y'))} outputs")


def saturating_accumulator() -> int:
    """What 255 * 127 + 255 * 127 comes to: 32767 in a saturating pair, 64770 exactly (as uint8 after a scale of 1/256)."""
    c = [numpy_helper.from_array(np.asarray(v, t), n) for n, v, t in [
        ("s", 1.0, np.float32), ("z", 0, np.uint8), ("w", [[127], [127]], np.int8), ("wz", 0, np.int8), ("ys", 256.0, np.float32)
    ]]  # fmt: skip
    node = helper.make_node("QLinearMatMul", ["x", "s", "z", "w", "s", "wz", "ys", "z"], ["y"])
    ends = [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 2]), helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 1])]
    graph = helper.make_graph([node], "pair", ends[:1], ends[1:], c)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return {128: 32767, 253: 64770}[int(ask(model, np.full((1, 2), 255, np.uint8))[0, 0])]


if __name__ == "__main__":
    main()
