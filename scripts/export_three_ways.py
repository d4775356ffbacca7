"""One network, three ways: digit classifiers trained and quantised in PyTorch, written as TorchScript, ONNX and .tflite.

usage: scripts/export_three_ways DIR [--train]

Each of the three files holds the very same integers: weights, int32 biases, and the scales and zero points of all activations.
``digits_mlp`` and ``digits_cnn`` come from ``digits_three_ways.npz`` beside this script, so that the integers are the same everywhere;
``--train`` makes that archive anew, with PyTorch's eager mode (``torch.ao.quantization``: fuse, prepare, calibrate, convert).
Differences between the three are then differences between the runtimes' arithmetics, and of nothing else (for these two networks
PyTorch, ONNX Runtime and XNNPACK have the same thresholds in every channel, and are one function; TFLite's built-in kernels are
another):

* PyTorch adds the bias as a float32 number, ``fl(b * sx * sw)``; ONNX and TFLite add the integer b itself.
* PyTorch's activations are uint8, TFLite's are int8: 128 less, in integers and zero points (``digits_tflite``). ONNX Runtime reads
  uint8.
* Each runtime has a requantisation of its own, and makes its multiplier in an order of roundings of its own.

What the three need in common, beyond what PyTorch would do by itself: weights are symmetric (zero point 0; TFLite knows no other), per
tensor in linear layers and per output channel in convolutions, within [-63, 63] so that no pair of products leaves int16 on CPUs
without VNNI; the input's scale is 1/16 with zero point 0, as in the other digit networks, so that a radius counts grey levels; the bias
is rounded to the accumulator's scale once, here. A ReLU costs nothing in any of the three: it is the clamp at the zero point, which
PyTorch's observers put to 0 for what is never negative.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from digits_tflite import UINT8_TO_INT8, tflite
from torch import nn
from torch.ao import quantization as tq
from torch.ao.nn import quantized as nnq
from torch.ao.nn.intrinsic import quantized as nniq
from train_digits import INPUT_SCALE, WEIGHT_LIMIT, Layer, cnn, mlp, qoperator, train

ARCHIVE = Path(__file__).parent / "digits_three_ways.npz"
FORMS = {"pt": "pytorch-fbgemm:input=1x8x8", "onnx": "onnxruntime", "tflite": "tflite-xnnpack"}
"""Suffixes of the files, and the semantics of each one's own runtime by default."""
READINGS = (
    *FORMS.items(),
    ("pt", "pytorch-qnnpack:input=1x8x8"),
    ("tflite", "tflite-reference"),
    ("tflite", "tflite-optimised"),
)
"""Everything that a runtime here computes on these files."""


def quantised(model: nn.Sequential, calibration: torch.Tensor) -> nn.Sequential:
    """Post-training quantisation in eager mode; the calibration images set the ranges of activations."""
    whole = nn.Sequential(tq.QuantStub(), *model, tq.DeQuantStub()).eval()
    kinds = [type(m) for m in whole]
    pairs = [[str(i), str(i + 1)] for i, k in enumerate(kinds) if k in (nn.Linear, nn.Conv2d) and kinds[i + 1] is nn.ReLU]
    whole = tq.fuse_modules(whole, pairs)
    limits: dict[str, Any] = {"dtype": torch.qint8, "quant_min": -WEIGHT_LIMIT, "quant_max": WEIGHT_LIMIT}
    symmetric = tq.MinMaxObserver.with_args(qscheme=torch.per_tensor_symmetric, **limits)
    channels = tq.PerChannelMinMaxObserver.with_args(qscheme=torch.per_channel_symmetric, **limits)
    activation = tq.MinMaxObserver.with_args(dtype=torch.quint8, quant_min=0, quant_max=255)
    pixels = tq.FixedQParamsObserver.with_args(scale=float(INPUT_SCALE), zero_point=0, dtype=torch.quint8, quant_min=0, quant_max=255)
    for module in whole:
        convolution = isinstance(module, nn.Conv2d) or isinstance(next(iter(module.children()), None), nn.Conv2d)
        module.qconfig = tq.QConfig(activation=activation, weight=channels if convolution else symmetric)
    whole[0].qconfig = tq.QConfig(activation=pixels, weight=symmetric)
    prepared = tq.prepare(whole)
    with torch.no_grad():
        prepared(calibration)
    return tq.convert(prepared)


def layers_of(module: nn.Sequential) -> list[Layer]:
    """The integers of a converted module, its biases rounded to the accumulator's scale."""
    layers, scale, parts = [], INPUT_SCALE, list(module)
    for i, part in enumerate(parts):
        convolution = isinstance(part, nnq.Conv2d)
        if not convolution and not isinstance(part, nnq.Linear):
            continue
        weight = part.weight()
        per_channel = weight.qscheme() == torch.per_channel_affine
        scales = weight.q_per_channel_scales().numpy() if per_channel else np.array([weight.q_scale()])
        zeros = weight.q_per_channel_zero_points().numpy() if per_channel else np.array([weight.q_zero_point()])
        relu, last = isinstance(part, nniq.LinearReLU | nniq.ConvReLU2d), i + 2 == len(parts)
        if zeros.any() or relu == last or (relu and part.zero_point):
            raise SystemExit(f"layer {i}: a weight that is not symmetric, or a ReLU whose zero point is not 0")
        bias = np.rint(part.bias().detach().double().numpy() / (np.float64(scale) * scales)).astype(np.int32)
        pool = isinstance(parts[i + 1], nn.MaxPool2d) or (relu and isinstance(parts[i + 2], nn.MaxPool2d))
        kind, pads = ("conv", part.padding[0]) if convolution else ("gemm", 0)
        scale = np.float32(part.scale)
        layers.append(Layer(kind, weight.int_repr().numpy(), scales.astype(np.float32), bias, scale, int(part.zero_point), pads, pool))
    return layers


def module_of(layers: list[Layer]) -> nn.Sequential:
    """The layers as a module of PyTorch's eager mode, packed for the engine that is selected: what ``convert`` makes."""
    scale, parts, flat = INPUT_SCALE, [nnq.Quantize(float(INPUT_SCALE), 0, torch.quint8)], False
    for i, layer in enumerate(layers):
        relu = i + 1 < len(layers)
        integers, scales = torch.from_numpy(layer.weight), layer.weight_scale
        bias = torch.from_numpy((layer.bias * (np.float64(scale) * scales)).astype(np.float32))
        if layer.kind == "conv":
            zeros = torch.zeros(len(scales), dtype=torch.long)
            weight = torch._make_per_channel_quantized_tensor(integers, torch.from_numpy(scales).double(), zeros, 0)
            part = (nniq.ConvReLU2d if relu else nnq.Conv2d)(layer.weight.shape[1], len(layer.weight), 3, padding=layer.pads)
        else:
            weight = torch._make_per_tensor_quantized_tensor(integers, float(scales[0]), 0)
            part = (nniq.LinearReLU if relu else nnq.Linear)(layer.weight.shape[1], len(layer.weight))
            if not flat:
                parts.append(nn.Flatten())
                flat = True
        part.set_weight_bias(weight, bias)
        part.scale, part.zero_point = float(layer.output_scale), layer.output_zero_point
        parts += [part, nn.MaxPool2d(2)] if layer.pool else [part]
        scale = layer.output_scale
    return nn.Sequential(*parts, nnq.DeQuantize()).eval()


def write(layers: list[Layer], name: str, folder: Path) -> dict[str, Path]:
    """The three files of a network, by suffix."""
    files = {form: folder / f"{name}.{form}" for form in FORMS}
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        with warnings.catch_warnings():
            # TorchScript, since a pickled quantised convolution does not come back whole.
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.trace(module_of(layers), torch.zeros(1, 1, 8, 8)), files["pt"])
    finally:
        torch.backends.quantized.engine = before
    files["onnx"].write_bytes(qoperator(name, layers).SerializeToString(deterministic=True))
    files["tflite"].write_bytes(tflite(layers, INPUT_SCALE))
    return files


def read_archive(path: Path = ARCHIVE) -> dict[str, list[Layer]]:
    """The networks of the archive, by name."""
    with np.load(path) as held:
        counts = {name.partition("/")[0]: 0 for name in held.files}
        for name in counts:
            counts[name] = 1 + max(int(key.split("/")[1]) for key in held.files if key.startswith(f"{name}/"))
        return {name: [_layer(held, f"{name}/{i}") for i in range(count)] for name, count in counts.items()}


def _layer(held: Any, prefix: str) -> Layer:
    # A field that came to be after the archive has its default.
    values = {f.name: held[key] for f in fields(Layer) if (key := f"{prefix}/{f.name}") in held}
    plain = {"kind": str, "output_scale": np.float32, "output_zero_point": int, "pads": int, "pool": bool, "top": int}
    return Layer(**{name: plain[name](value[()]) if name in plain else value for name, value in values.items()})


def write_archive(networks: dict[str, list[Layer]], path: Path = ARCHIVE) -> None:
    arrays = {
        f"{name}/{i}/{f.name}": np.asarray(getattr(layer, f.name))
        for name, layers in networks.items()
        for i, layer in enumerate(layers)
        for f in fields(Layer)
    }
    np.savez_compressed(path, **arrays)


def digits(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scikit-learn's digits as ``train_digits`` splits them: images and labels to train on, and 400 to test on."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    held = load_digits()
    images = (held.images.astype(np.float32) / 16).reshape(-1, 1, 8, 8)
    train_x, test_x, train_y, test_y = train_test_split(images, held.target, test_size=400, random_state=seed, stratify=held.target)
    return train_x, test_x, train_y, test_y


def train_both() -> Iterator[tuple[str, list[Layer]]]:
    train_x, _, train_y, _ = digits()
    for name, model, epochs in (("digits_mlp", mlp(), 60), ("digits_cnn", cnn(), 80)):
        train(model, torch.from_numpy(train_x), torch.from_numpy(train_y), epochs)
        yield name, layers_of(quantised(model, torch.from_numpy(train_x[:500])))


def report(name: str, layers: list[Layer], files: dict[str, Path]) -> None:
    """What each runtime makes of the test images, and on how many of them it differs from the first one."""
    from bvverify.load.load import load
    from bvverify.run import oracle, oracle_litert, oracle_torch

    _, test_x, _, test_y = digits()
    ask, first, meaning = {"pt": oracle_torch.ask, "onnx": oracle.ask, "tflite": oracle_litert.ask}, None, layers[-1]
    for form, semantics in READINGS:
        answer = ask[form](load(files[form], semantics, allow_pickle=True), test_x)
        if answer.dtype == np.int8:
            answer = (answer.astype(np.float32) - (meaning.output_zero_point + UINT8_TO_INT8)) * meaning.output_scale
        first = answer if first is None else first
        outputs, classes = (answer != first).any(axis=1).sum(), (answer.argmax(1) != first.argmax(1)).sum()
        right = (answer.argmax(1) == test_y).mean()
        apart = f"differs on {outputs} of {len(test_x)} images, in the class on {classes}"
        print(f"{files[form].name:17} {semantics:29} {right:.1%} right; {apart}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, metavar="DIR")
    parser.add_argument("--train", action="store_true", help="train and quantise anew, instead of reading the archive")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
    warnings.filterwarnings("ignore", message="torch.ao.quantization is deprecated")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if arguments.train:
        torch.backends.quantized.engine = "fbgemm"
        write_archive(dict(train_both()))
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, layers in read_archive().items():
        report(name, layers, write(layers, name, arguments.output))


if __name__ == "__main__":
    main()
