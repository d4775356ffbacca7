"""The digit networks as int8 .tflite files: float images in (height, width, channel), int8 logits out.

PyTorch and ONNX hold activations as uint8, TFLite as int8: the same real numbers with every integer and every zero point 128 less.
Weights are int8 with zero point 0 in all of them, so that nothing else moves. Images lie channels last here, so that a convolution's
weight is (out, height, width, in), and the columns of the first dense layer behind one follow that order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tflite_writer import Writer

if TYPE_CHECKING:
    from train_digits import Layer

UINT8_TO_INT8 = -128
"""Added to an integer, or a zero point, of uint8."""


def tflite(layers: list[Layer], input_scale: np.float32) -> bytes:
    """The layers, each with a fused ReLU but the last; the input is quantised with ``input_scale`` and zero point 0 of uint8."""
    w, scale, zero = Writer(), input_scale, UINT8_TO_INT8
    image, shape = w.tensor((1, 8, 8, 1), kind="FLOAT32"), (8, 8, 1)
    x = w.operator("QUANTIZE", (image,), w.tensor((1, *shape), scale, zero))
    for i, layer in enumerate(layers):
        relu = i + 1 < len(layers)
        activation = schema.ActivationFunctionType.RELU if relu else schema.ActivationFunctionType.NONE
        y_scale, y_zero = layer.output_scale, layer.output_zero_point + UINT8_TO_INT8
        weight = layer.weight
        if layer.kind == "conv":
            weight = weight.transpose(0, 2, 3, 1)
            shape = (shape[0] + 2 * layer.pads - 2, shape[1] + 2 * layer.pads - 2, len(weight))
            # A 3x3 window at stride 1: SAME is one pixel of padding on each side.
            padding = schema.Padding.SAME if layer.pads else schema.Padding.VALID
            options = {"options": "Conv2DOptions", "version": 3, "padding": padding, "strideW": 1, "strideH": 1}
        else:
            if len(shape) == 3:
                x, weight, shape = *_flattened(w, x, shape, weight, scale, zero), (weight.shape[1],)
            shape, options = (len(weight),), {"options": "FullyConnectedOptions", "version": 4}
        held = w.tensor(weight.shape, layer.weight_scale, 0, weight)
        bias = w.tensor(layer.bias.shape, scale * layer.weight_scale, 0, layer.bias.astype(np.int32), kind="INT32")
        kind = "CONV_2D" if layer.kind == "conv" else "FULLY_CONNECTED"
        out = w.tensor((1, *shape), y_scale, y_zero)
        x = w.operator(kind, (x, held, bias), out, fusedActivationFunction=activation, **options)
        if layer.pool:
            shape = (shape[0] // 2, shape[1] // 2, shape[2])
            window = {"padding": schema.Padding.VALID, "strideW": 2, "strideH": 2, "filterWidth": 2, "filterHeight": 2}
            x = w.operator("MAX_POOL_2D", (x,), w.tensor((1, *shape), y_scale, y_zero), "Pool2DOptions", 2, **window)
        scale, zero = y_scale, y_zero
    return w.content(image, x)


def _flattened(w: Writer, x: int, shape: tuple[int, ...], weight: np.ndarray, scale: np.float32, zero: int) -> tuple[int, np.ndarray]:
    """A RESHAPE to a row, and the weight (out, in) with its columns in the order of that row."""
    height, width, channels = shape
    size = weight.shape[1]
    flat = w.tensor((1, size), scale, zero)
    x = w.operator("RESHAPE", (x, w.tensor((2,), data=np.array([1, size], np.int32), kind="INT32")), flat)
    return x, weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(len(weight), size)
