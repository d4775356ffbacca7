"""Trains two small networks on scikit-learn's digits, quantises them with PyTorch, and writes them as ONNX.

Four files: an MLP and a CNN, each as QOperator (QLinearConv, QGemm) and as QDQ (Conv and Gemm between QuantizeLinear and
DequantizeLinear), with a few test images and one VNN-LIB property. Deterministic for a seed on one machine; the files in
``bvverify/examples`` are the ones that tests and ``bvverify demo`` use. The MLP also as ``digits_mlp.tflite``, whose kernel modes differ.

Both also as they were before quantisation (``_float``), and on a 6-bit grid (``_6bit``: weights within [-31, 31], activations of 64 levels,
stored in bytes): what ``bvverify compare`` holds against the 8-bit files.

Two choices keep the files exact on every CPU:

* activations are uint8 and weights int8 within [-63, 63], so that no pair of products leaves int16 (2 * 255 * 63 = 32130) and CPUs
  without VNNI compute what those with it compute;
* the input's scale is float32(1/16) with zero point 0: a pixel (0 to 16, divided by 16 for the network) *is* its integer, and a
  radius counts grey levels.

A third network, ``digits_bright_qop.onnx``, is what most quantisers would write instead: weights up to 127 and pixels from 0 to 255. There
some pairs of products do leave int16, and CPUs with and without VNNI differ; three test images for which that decides come with it.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from digits_tflite import tflite
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

WEIGHT_LIMIT = 63
INPUT_SCALE = np.float32(1 / 16)
IMAGES = 20
BRIGHT_SCALE = np.float32(1 / 255)
BRIGHT_IMAGES = [94, 165, 257]
"""Test images (with seed 0) whose class withstands 10, 4 and 2 steps of 1/255 with VNNI and does not without."""


@dataclass(frozen=True)
class Layer:
    """One quantised layer: ``kind`` is conv or gemm; arrays are as the ONNX file holds them."""

    kind: str
    weight: np.ndarray  # int8
    weight_scale: np.ndarray  # float32, (1,) per tensor or (out,) per channel
    bias: np.ndarray  # int32
    output_scale: np.float32
    output_zero_point: int
    pads: int = 0
    pool: bool = False  # a 2x2 max pool behind it
    top: int = 255  # the largest activation; below 255 a Clip on the integers sees to it


def mlp(hidden: int = 32) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10)
    )  # fmt: skip


def train(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    """Adam on inputs pushed uphill by up to two grey levels, so that small radii are worth proving.

    One signed gradient step from a random start: Wong, Rice and Kolter, "Fast is better than free", 2020.
    """
    reach = 2 / 16
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            shift = ((torch.rand_like(x[batch]) * 2 - 1) * reach).requires_grad_()
            uphill = torch.autograd.grad(nn.functional.cross_entropy(model((x[batch] + shift).clamp(0, 1)), y[batch]), shift)[0]
            pushed = (x[batch] + (shift.detach() + 1.25 * reach * uphill.sign()).clamp(-reach, reach)).clamp(0, 1)
            loss = nn.functional.cross_entropy(model(pushed), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()


def quantise(
    model: nn.Sequential, calibration: torch.Tensor, input_scale: np.float32 = INPUT_SCALE, limit: int = WEIGHT_LIMIT, top: int = 255
) -> list[Layer]:
    """Post-training quantisation: ranges observed on the calibration images, rounding by ``torch.quantize_per_*``.

    Weights are within [-limit, limit], activations within [0, top].
    """
    layers: list[Layer] = []
    x, scale = calibration, input_scale
    modules = list(model)
    with torch.no_grad():
        for i, module in enumerate(modules):
            x = module(x)
            if not isinstance(module, nn.Linear | nn.Conv2d):
                continue
            relu = i + 1 < len(modules) and isinstance(modules[i + 1], nn.ReLU)
            seen = x.clamp(min=0) if relu else x
            lo, hi = min(0.0, float(seen.min())), max(0.0, float(seen.max()))
            out_scale = np.float32((hi - lo) / top)
            zero_point = round(-lo / float(out_scale))
            conv = isinstance(module, nn.Conv2d)
            w_scale, weight = quantise_weight(module.weight, limit, per_channel=conv)
            # The bias lives on the accumulator's scale: int32, zero point 0.
            bias = np.rint(module.bias.double().numpy() / (np.float64(scale) * w_scale.astype(np.float64))).astype(np.int32)
            pool = conv and isinstance(modules[min(i + 2, len(modules) - 1)], nn.MaxPool2d)
            layers.append(
                Layer("conv" if conv else "gemm", weight, w_scale, bias, out_scale, zero_point, module.padding[0] if conv else 0, pool, top)
            )
            scale = out_scale
    return layers


def quantise_weight(weight: torch.Tensor, limit: int, *, per_channel: bool) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 weights within [-limit, limit], with their float32 scales."""
    if per_channel:
        scales = (weight.abs().amax(dim=(1, 2, 3)) / limit).float()
        quantised = torch.quantize_per_channel(weight, scales, torch.zeros_like(scales, dtype=torch.int64), 0, torch.qint8)
    else:
        scales = (weight.abs().max() / limit).float().reshape(1)
        quantised = torch.quantize_per_tensor(weight, float(scales), 0, torch.qint8)
    integers = quantised.int_repr().numpy()
    assert np.abs(integers.astype(int)).max() <= limit
    return scales.numpy().astype(np.float32), integers


class Graph:
    """An ONNX graph under construction: nodes, initialisers, and the shared input and output quantisation."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: object, dtype: type) -> str:
        self.initialisers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}_node", **attributes))
        return output

    def pair(self, tensor: str, scale: np.float32, zero_point: int) -> tuple[str, str]:
        return self.constant(f"{tensor}_scale", scale, np.float32), self.constant(f"{tensor}_zero_point", zero_point, np.uint8)

    def finish(self, name: str) -> onnx.ModelProto:
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])
        graph = helper.make_graph(self.nodes, name, [image], [logits], self.initialisers)
        microsoft = any(n.domain for n in self.nodes)
        opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid("com.microsoft", 1)] if microsoft else [])
        model = helper.make_model(graph, opset_imports=opsets, producer_name="bvverify scripts/train_digits", ir_version=8)
        if not microsoft:
            onnx.checker.check_model(model, full_check=True)
        return model


def scales_of(layer: Layer) -> np.ndarray:
    """A scalar per tensor, a vector per channel: what ONNX expects."""
    return layer.weight_scale if layer.kind == "conv" else layer.weight_scale.reshape(())


def qoperator(name: str, layers: list[Layer], input_scale: np.float32 = INPUT_SCALE) -> onnx.ModelProto:
    g = Graph()
    scale, zero = g.pair("image", input_scale, 0)
    x = g.node("QuantizeLinear", ["image", scale, zero], "image_quantised")
    flat = False
    for i, layer in enumerate(layers):
        out = f"layer{i}"
        weight = g.constant(f"{out}_weight", layer.weight, np.int8)
        w_scale = g.constant(f"{out}_weight_scale", scales_of(layer), np.float32)
        w_zero = g.constant(f"{out}_weight_zero_point", np.zeros(scales_of(layer).shape), np.int8)
        bias = g.constant(f"{out}_bias", layer.bias, np.int32)
        y_scale, y_zero = g.pair(out, layer.output_scale, layer.output_zero_point)
        if layer.kind == "conv":
            inputs = [x, scale, zero, weight, w_scale, w_zero, y_scale, y_zero, bias]
            x = clipped(g, g.node("QLinearConv", inputs, out, kernel_shape=[3, 3], pads=[layer.pads] * 4, strides=[1, 1]), layer)
            if layer.pool:
                x = g.node("MaxPool", [x], f"{out}_pooled", kernel_shape=[2, 2], strides=[2, 2])
        else:
            if not flat:
                x, flat = g.node("Flatten", [x], f"{out}_flat", axis=1), True
            inputs = [x, scale, zero, weight, w_scale, w_zero, bias, y_scale, y_zero]
            x = clipped(g, g.node("QGemm", inputs, out, domain="com.microsoft", alpha=1.0, transB=1), layer)
        scale, zero = y_scale, y_zero
    g.node("DequantizeLinear", [x, scale, zero], "logits")
    return g.finish(name)


def clipped(g: Graph, x: str, layer: Layer) -> str:
    """The layer's result within the levels that it may take."""
    if layer.top == 255:
        return x
    ends = [g.constant(f"{x}_{end}", value, np.uint8) for end, value in (("least", 0), ("largest", layer.top))]
    return g.node("Clip", [x, *ends], f"{x}_clipped")


def real(name: str, model: nn.Sequential) -> onnx.ModelProto:
    """The network before quantisation: Conv, Gemm, Relu and MaxPool in float32."""
    g, x = Graph(), "image"
    modules = [m for m in model if not isinstance(m, nn.Flatten)]
    flat = False
    for i, module in enumerate(modules):
        out = "logits" if i == len(modules) - 1 else f"step{i}"
        match module:
            case nn.ReLU():
                x = g.node("Relu", [x], out)
            case nn.MaxPool2d():
                x = g.node("MaxPool", [x], out, kernel_shape=[2, 2], strides=[2, 2])
            case nn.Conv2d() | nn.Linear():
                if isinstance(module, nn.Linear) and not flat:
                    x, flat = g.node("Flatten", [x], f"{out}_flat", axis=1), True
                weights = [g.constant(f"{out}_{n}", v.detach().numpy(), np.float32) for n, v in module.named_parameters()]
                if isinstance(module, nn.Linear):
                    x = g.node("Gemm", [x, *weights], out, transB=1)
                else:
                    x = g.node("Conv", [x, *weights], out, kernel_shape=[3, 3], pads=[module.padding[0]] * 4, strides=[1, 1])
    return g.finish(name)


def qdq(name: str, layers: list[Layer]) -> onnx.ModelProto:
    g = Graph()
    scale_name, zero_name = g.pair("image", INPUT_SCALE, 0)
    scale_value = INPUT_SCALE
    x = through(g, "image", scale_name, zero_name)
    flat = False
    for i, layer in enumerate(layers):
        out = f"layer{i}"
        scales = scales_of(layer)
        w = g.constant(f"{out}_weight", layer.weight, np.int8)
        w_scale = g.constant(f"{out}_weight_scale", scales, np.float32)
        w_zero = g.constant(f"{out}_weight_zero_point", np.zeros(scales.shape), np.int8)
        weight = g.node("DequantizeLinear", [w, w_scale, w_zero], f"{out}_weight_real", **({"axis": 0} if scales.ndim else {}))
        b = g.constant(f"{out}_bias", layer.bias, np.int32)
        b_scale = g.constant(f"{out}_bias_scale", scale_value * scales, np.float32)
        b_zero = g.constant(f"{out}_bias_zero_point", np.zeros(scales.shape), np.int32)
        bias = g.node("DequantizeLinear", [b, b_scale, b_zero], f"{out}_bias_real", **({"axis": 0} if scales.ndim else {}))
        if layer.kind == "conv":
            y = g.node("Conv", [x, weight, bias], out, kernel_shape=[3, 3], pads=[layer.pads] * 4, strides=[1, 1])
        else:
            if not flat:
                # Flatten stands between two pairs of one quantisation, so that the runtime moves integers through it.
                x, flat = through(g, g.node("Flatten", [x], f"{out}_flat", axis=1), scale_name, zero_name), True
            y = g.node("Gemm", [x, weight, bias], out, transB=1)
        if layer.output_zero_point == 0:
            y = g.node("Relu", [y], f"{out}_relu")
        scale_name, zero_name = g.pair(out, layer.output_scale, layer.output_zero_point)
        scale_value = layer.output_scale
        last = i == len(layers) - 1
        x = through(g, y, scale_name, zero_name, "logits" if last else None)
        if layer.pool:
            pooled = g.node("MaxPool", [x], f"{out}_pooled", kernel_shape=[2, 2], strides=[2, 2])
            x = through(g, pooled, scale_name, zero_name)
    return g.finish(name)


def through(g: Graph, tensor: str, scale: str, zero: str, result: str | None = None) -> str:
    """A QuantizeLinear and a DequantizeLinear behind ``tensor``."""
    quantised = g.node("QuantizeLinear", [tensor, scale, zero], f"{tensor}_quantised")
    return g.node("DequantizeLinear", [quantised, scale, zero], result or f"{tensor}_real")


def logits(model: Path, x: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """ONNX Runtime's outputs, and the operators that were left after its optimiser."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        operators = [n.op_type for n in onnx.load(options.optimized_model_filepath).graph.node]
    return np.concatenate([session.run(None, {"image": image[None]})[0] for image in x]), operators


def property_file(image: np.ndarray, label: int, radius: int, source: str) -> str:
    """VNN-LIB 1.0: the violation, some other class reaches the label's output."""
    lines = [f"; {source}: every pixel within {radius}/16 of the image, the class stays {label}", ""]
    lines += [f"(declare-const X_{i} Real)" for i in range(64)] + [f"(declare-const Y_{i} Real)" for i in range(10)] + [""]
    for i, pixel in enumerate(np.rint(image.ravel() * 16).astype(int)):
        lo, hi = max(pixel - radius, 0) / 16, min(pixel + radius, 16) / 16
        lines.append(f"(assert (>= X_{i} {lo}))\n(assert (<= X_{i} {hi}))")
    rivals = "\n".join(f"    (and (>= Y_{i} Y_{label}))" for i in range(10) if i != label)
    return "\n".join(lines) + f"\n\n(assert (or\n{rivals}\n))\n"


def write_bright(output: Path, seed: int, train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> None:
    """The network whose pairs of products can leave int16, and its images."""
    torch.manual_seed(seed)
    model = mlp(16)
    train(model, torch.from_numpy(train_x), torch.from_numpy(train_y), 40)
    path = output / "digits_bright_qop.onnx"
    layers = quantise(model, torch.from_numpy(train_x[:500]), BRIGHT_SCALE, 127)
    path.write_bytes(qoperator("digits_bright", layers, BRIGHT_SCALE).SerializeToString(deterministic=True))
    answers, _ = logits(path, test_x)
    print(f"{path.name}: {path.stat().st_size} bytes, accuracy {(answers.argmax(1) == test_y).mean():.1%}")
    np.savez_compressed(output / "digits_bright.npz", images=test_x[BRIGHT_IMAGES], labels=test_y[BRIGHT_IMAGES].astype(np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent.parent / "bvverify" / "examples")
    arguments = parser.parse_args()
    # PyTorch's quantised tensors warn that they will go; their rounding is all that is used here.
    warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    arguments.output.mkdir(parents=True, exist_ok=True)

    digits = load_digits()
    images = (digits.images.astype(np.float32) / 16).reshape(-1, 1, 8, 8)
    train_x, test_x, train_y, test_y = train_test_split(
        images, digits.target, test_size=400, random_state=arguments.seed, stratify=digits.target
    )
    for name, model, epochs in (("mlp", mlp(), 60), ("cnn", cnn(), 80)):
        train(model, torch.from_numpy(train_x), torch.from_numpy(train_y), epochs)
        with torch.no_grad():
            reached = (model(torch.from_numpy(test_x)).argmax(1).numpy() == test_y).mean()
        layers = quantise(model, torch.from_numpy(train_x[:500]))
        if name == "mlp":
            (arguments.output / "digits_mlp.tflite").write_bytes(tflite(layers, INPUT_SCALE))
        answers = {}
        for form, write in (("qop", qoperator), ("qdq", qdq)):
            path = arguments.output / f"digits_{name}_{form}.onnx"
            path.write_bytes(write(f"digits_{name}", layers).SerializeToString(deterministic=True))
            answers[form], operators = logits(path, test_x)
            accuracy = (answers[form].argmax(1) == test_y).mean()
            print(f"{path.name}: {path.stat().st_size} bytes, accuracy {accuracy:.1%} (float {reached:.1%}), runs as {' '.join(operators)}")
            unfused = {"Conv", "Gemm", "MatMul", "Relu"} & set(operators)
            if unfused:
                raise SystemExit(f"{path.name}: ONNX Runtime leaves {sorted(unfused)} in float")
            if accuracy <= 0.93:
                raise SystemExit(f"{path.name}: an accuracy of {accuracy:.1%} is not worth shipping")
        versions = {"float": real(f"digits_{name}", model)}
        versions["6bit"] = qoperator(f"digits_{name}", quantise(model, torch.from_numpy(train_x[:500]), limit=31, top=63))
        for form, version in versions.items():
            path = arguments.output / f"digits_{name}_{form}.onnx"
            path.write_bytes(version.SerializeToString(deterministic=True))
            other, operators = logits(path, test_x)
            differ = (other.argmax(1) != answers["qop"].argmax(1)).sum()
            print(
                f"{path.name}: {path.stat().st_size} bytes, accuracy {(other.argmax(1) == test_y).mean():.1%}, {differ} of 400 classes"
                f" differ from the 8-bit ones, runs as {' '.join(operators)}"
            )
        if not np.array_equal(answers["qop"], answers["qdq"]):
            raise SystemExit(f"digits_{name}: the QOperator and the QDQ file disagree")

    # Two test images of every class, in the order of the classes.
    chosen = np.concatenate([np.flatnonzero(test_y == digit)[: IMAGES // 10] for digit in range(10)])
    np.savez_compressed(arguments.output / "digits.npz", images=test_x[chosen], labels=test_y[chosen].astype(np.int64))
    write_bright(arguments.output, arguments.seed, train_x, train_y, test_x, test_y)
    text = property_file(test_x[chosen[0]], int(test_y[chosen[0]]), 1, "digits.npz::0")
    (arguments.output / "digits_0_radius_1.vnnlib").write_text(text)


if __name__ == "__main__":
    main()
