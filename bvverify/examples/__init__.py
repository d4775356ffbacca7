"""Digit networks, images and one property that ship with the package; ``scripts/train_digits`` makes them.

The images are scikit-learn's 8x8 digits, float32 of shape (20, 1, 8, 8): grey levels 0 to 16, divided by 16. The networks quantise them
with scale 1/16 and zero point 0, so that a radius counts grey levels.

A third network, ``BRIGHT``, reads the same images in 255 steps and has weights up to 127, so that CPUs with and without VNNI differ
(``--accumulator``); ``BRIGHT_IMAGES`` are three digits for which that decides. ``TFLITE`` is the first network in int8,
for LiteRT.

``TINY`` is a layer of two neurons, in both formats, which the course of ``encodings/`` computes by hand; ``NEAR_TIE`` is another, with an
accumulator that all but touches a tie. Their inputs are rows of int8 in ``TINY_ROWS`` and ``NEAR_TIE_ROWS``; ``scripts/make_tiny`` makes
them.

``SPIKES`` is a spiking network of two layers (a file each), whose two readings of the threshold part on ``SPIKES_ROWS``.

On ``ILP_TIE`` and ``ILP_BIG_M`` an ILP reading and the device part; their inputs are .csv files of the same names, and
``scripts/make_ilp_examples`` makes them.
"""

from __future__ import annotations

from pathlib import Path

MODELS = ("digits_mlp_qop.onnx", "digits_mlp_qdq.onnx", "digits_cnn_qop.onnx", "digits_cnn_qdq.onnx")
IMAGES = "digits.npz"
BRIGHT, BRIGHT_IMAGES = "digits_bright_qop.onnx", "digits_bright.npz"
TFLITE = "digits_mlp.tflite"
TINY, TINY_ROWS = ("tiny.onnx", "tiny.tflite"), "tiny.csv"
SPIKES, SPIKES_ROWS = "20_3_2_2_weights_0.npy", "spikes.csv"
NEAR_TIE, NEAR_TIE_ROWS = "near_tie.onnx", "near_tie.csv"
ILP_TIE, ILP_BIG_M = "ilp_tie.onnx", "ilp_big_m.onnx"
PROPERTY = "digits_0_radius_1.vnnlib"


def path(name: str) -> Path:
    """The file of that name; ``KeyError`` when there is none."""
    file = Path(__file__).parent / name
    if not file.is_file():
        raise KeyError(name)
    return file
