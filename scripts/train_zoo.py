"""Trains five networks on Fashion-MNIST, quantises them with PyTorch, and writes them as ONNX (QOperator).

mlp100 (784-100-10), mlp3x100, mlp5x256, cnn (conv 8 5x5/2, conv 16 3x3/2, 64, 10) and cnn_adversarial, its twin trained on inputs pushed
uphill. They are what ``scripts/bench zoo`` verifies. Deterministic for a seed on one machine; not part of the project, since they can be
made.

The input's scale is float32(1/255) with zero point 0: a pixel is its integer, a radius counts grey levels. Weights are int8 within
[-63, 63], so that CPUs without VNNI compute what those with it compute.

The data: Debian's package dataset-fashion-mnist (/usr/share/datasets/fashion-mnist), or any folder with the four IDX files, gzipped or not.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.ao.quantization import HistogramObserver
from train_digits import WEIGHT_LIMIT, quantise_weight

INPUT_SCALE = np.float32(1 / 255)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Layer:
    """One quantised layer as the ONNX file holds it; ``stride`` 0 is a dense layer."""

    weight: np.ndarray  # int8
    weight_scale: np.ndarray  # float32, (1,) or (out,)
    bias: np.ndarray  # int32
    output_scale: np.float32
    output_zero_point: int
    stride: int


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(400, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


ZOO = {
    "mlp100": (lambda: mlp(784, 100, 10), False),
    "mlp3x100": (lambda: mlp(784, 100, 100, 100, 10), False),
    "cnn": (cnn, False),
    "cnn_adversarial": (cnn, True),
    "mlp5x256": (lambda: mlp(784, 256, 256, 256, 256, 256, 10), False),
}


def read(folder: Path, name: str) -> np.ndarray:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            raw = path.read_bytes()
            raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
            dimensions = raw[3]
            shape = np.frombuffer(raw, ">i4", dimensions, 4)
            return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    sys.exit(f"{folder / name}: not there. Install Debian's dataset-fashion-mnist, or name a folder with the four IDX files: --data FOLDER")


def train(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor, *, adversarial: bool, epochs: int) -> None:
    """Adam; adversarially: one signed gradient step from a random start (Wong, Rice and Kolter, 2020), reach 8 grey levels."""
    reach = 8 / 255
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(128):
            inputs = x[batch]
            if adversarial:
                shift = ((torch.rand_like(inputs) * 2 - 1) * reach).requires_grad_()
                uphill = torch.autograd.grad(nn.functional.cross_entropy(model((inputs + shift).clamp(0, 1)), y[batch]), shift)[0]
                inputs = (inputs + (shift.detach() + 1.25 * reach * uphill.sign()).clamp(-reach, reach)).clamp(0, 1)
            loss = nn.functional.cross_entropy(model(inputs), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()


def quantise(model: nn.Sequential, calibration: torch.Tensor) -> list[Layer]:
    """Post-training quantisation: weights by their largest, outputs by PyTorch's own observer on calibration images."""
    layers: list[Layer] = []
    x, scale, modules = calibration, INPUT_SCALE, list(model)
    with torch.no_grad():
        for i, module in enumerate(modules):
            x = module(x)
            if not isinstance(module, nn.Linear | nn.Conv2d):
                continue
            observer = HistogramObserver(dtype=torch.quint8)
            observer(x.clamp(min=0) if i + 1 < len(modules) else x)
            observed, zero_point = observer.calculate_qparams()
            out_scale = np.float32(observed)
            conv = isinstance(module, nn.Conv2d)
            w_scale, weight = quantise_weight(module.weight, WEIGHT_LIMIT, per_channel=conv)
            bias = np.rint(module.bias.double().numpy() / (np.float64(scale) * w_scale.astype(np.float64))).astype(np.int32)
            layers.append(Layer(weight, w_scale, bias, out_scale, int(zero_point), module.stride[0] if conv else 0))
            scale = out_scale
    return layers


def qoperator(name: str, layers: list[Layer]) -> onnx.ModelProto:
    nodes, constants = [], []

    def constant(label: str, value: object, dtype: type) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype), label))
        return label

    def pair(label: str, scale: np.float32, zero: int) -> list[str]:
        return [constant(f"{label}_scale", scale, np.float32), constant(f"{label}_zero_point", zero, np.uint8)]

    quantisation = pair("image", INPUT_SCALE, 0)
    nodes.append(helper.make_node("QuantizeLinear", ["image", *quantisation], ["image_quantised"]))
    x, flat = "image_quantised", False
    for i, layer in enumerate(layers):
        out = f"layer{i}"
        scales = layer.weight_scale if layer.stride else layer.weight_scale.reshape(())
        weight = [
            constant(f"{out}_weight", layer.weight, np.int8),
            constant(f"{out}_weight_scale", scales, np.float32),
            constant(f"{out}_weight_zero_point", np.zeros(scales.shape), np.int8),
        ]
        bias = constant(f"{out}_bias", layer.bias, np.int32)
        result = pair(out, layer.output_scale, layer.output_zero_point)
        if layer.stride:
            kernel, strides = list(layer.weight.shape[2:]), [layer.stride, layer.stride]
            inputs = [x, *quantisation, *weight, *result, bias]
            nodes.append(helper.make_node("QLinearConv", inputs, [out], kernel_shape=kernel, strides=strides))
        else:
            if not flat:
                nodes.append(helper.make_node("Flatten", [x], ["flat"], axis=1))
                x, flat = "flat", True
            inputs = [x, *quantisation, *weight, bias, *result]
            nodes.append(helper.make_node("QGemm", inputs, [out], domain="com.microsoft", alpha=1.0, transB=1))
        x, quantisation = out, result
    nodes.append(helper.make_node("DequantizeLinear", [x, *quantisation], ["logits"]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 28, 28])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, name, [image], [logits], constants)
    return helper.make_model(graph, opset_imports=opsets, producer_name="bvverify scripts/train_zoo", ir_version=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEBIAN)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "zoo")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order: the same networks on machines with any number of cores
    warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
    images = {part: read(arguments.data, f"{part}-images-idx3-ubyte") for part in ("train", "t10k")}
    labels = {part: read(arguments.data, f"{part}-labels-idx1-ubyte") for part in ("train", "t10k")}
    arguments.output.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.output / "test.npz", images=images["t10k"][:1000], labels=labels["t10k"][:1000].astype(np.int64))
    x = torch.from_numpy(images["train"].astype(np.float32) / 255)[:, None]
    y = torch.from_numpy(labels["train"].astype(np.int64))
    for name, (make, adversarial) in ZOO.items():
        torch.manual_seed(arguments.seed)
        model = make()
        train(model, x, y, adversarial=adversarial, epochs=arguments.epochs)
        path = arguments.output / f"{name}.onnx"
        path.write_bytes(qoperator(name, quantise(model, x[:2000])).SerializeToString(deterministic=True))
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        test = images["t10k"][:1000].astype(np.float32) / np.float32(255)
        predicted = np.array([session.run(None, {"image": image[None, None]})[0].argmax() for image in test])
        print(f"{path}: accuracy {np.mean(predicted == labels['t10k'][:1000]):.1%} on the first 1000 test images", flush=True)


if __name__ == "__main__":
    main()
