"""Records what PyTorch's engine fbgemm computes on an x86 CPU without VNNI: small layers with their inputs and outputs, as one .npz.

    python scripts/record_pairs_torch.py tests/differential/pairs_torch.npz

fbgemm compiles its kernels while it runs, for an instruction set that ``fbgemm::fbgemmForceIsa`` can impose on it: here AVX2, then AVX512
without VNNI. The script refuses to record where pairs of products do not saturate, or where the two sets differ.
Weights are packed for one instruction set, so that every layer is packed anew. Deterministic.
"""

from __future__ import annotations

import argparse
import ctypes
import warnings
from pathlib import Path

import numpy as np
import torch

LINEAR = [(2, 5), (3, 5), (8, 5), (31, 6), (100, 4), (520, 3)]
"""Inputs and outputs; 520 is more than one block of the reduction."""
CONVOLUTIONS = [
    # channels in and out, kernel, groups, padding, stride, dilation, size of the image
    (1, 4, 3, 1, 0, 1, 1, 6),
    (3, 4, 3, 1, 1, 1, 1, 6),
    (4, 8, 3, 1, 1, 2, 1, 7),
    (4, 5, 3, 1, 2, 1, 2, 6),
    (3, 5, 1, 1, 0, 1, 1, 6),
    (8, 8, 1, 1, 0, 1, 1, 3),
    (2, 3, 5, 1, 2, 2, 1, 7),
    (16, 9, 3, 1, 1, 1, 1, 4),
    (6, 8, 3, 2, 1, 1, 1, 6),
    (9, 6, 3, 3, 1, 1, 1, 5),
    (2, 6, 3, 2, 1, 1, 1, 5),
]
INPUTS, AVX2, AVX512 = 20, 1, 2


def force(isa: int) -> None:
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    library["_ZN6fbgemm14fbgemmForceIsaENS_10inst_set_tE"](ctypes.c_int(isa))


def layer(case: dict[str, np.ndarray]) -> torch.nn.Module:
    """The recorded layer as a module, packed for the instruction set in force."""
    weight = torch.from_numpy(case["weight"])
    if case["weight_scale"].size > 1:
        scales = torch.from_numpy(case["weight_scale"])
        quantised = torch._make_per_channel_quantized_tensor(weight, scales, torch.zeros(len(scales), dtype=torch.long), 0)
    else:
        quantised = torch._make_per_tensor_quantized_tensor(weight, float(case["weight_scale"][0]), 0)
    bias, ops = torch.from_numpy(case["bias"]), torch.ops.quantized
    if weight.dim() == 2:
        operator, packed = ops.linear, ops.linear_prepack(quantised, bias)
    else:
        groups, padding, stride, dilation = (int(v) for v in case["geometry"])
        operator = ops.conv2d
        packed = ops.conv2d_prepack(quantised, bias, [stride] * 2, [padding] * 2, [dilation] * 2, groups)
    return Layer(operator, packed, case)


class Layer(torch.nn.Module):
    """Quantise, one operator, dequantise."""

    def __init__(self, operator: object, packed: object, case: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.operator, self.packed = operator, packed
        self.x, self.y = ((float(s), int(z)) for s, z in (case["x_meaning"], case["y_meaning"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.operator(torch.quantize_per_tensor(x, *self.x, torch.quint8), self.packed, *self.y).dequantize()


def made(rng: np.random.Generator, weight: tuple[int, ...], image: tuple[int, ...], geometry: tuple[int, ...]) -> dict[str, np.ndarray]:
    """A layer at whose weights pairs saturate often, with its inputs."""
    channels, products = weight[0], int(np.prod(weight)) // weight[0]
    y_scale = 0.2048 * max(1.0, products / 16) ** 0.5
    return {
        "weight": rng.choice([-128, -100, -60, 30, 90, 127], weight).astype(np.int8),
        "weight_scale": rng.uniform(0.005, 0.02, channels if rng.integers(2) else 1),
        "bias": rng.uniform(-0.5, 0.5, channels).astype(np.float32),
        "geometry": np.array(geometry),
        "x_meaning": np.array([0.01, rng.choice([0, 37, 128, 255])]),
        "y_meaning": np.array([y_scale, 128]),
        "x": rng.choice([0, 37, 60, 128, 200, 255], (INPUTS, *image)).astype(np.uint8),
    }


def ask(case: dict[str, np.ndarray]) -> np.ndarray:
    """The integers that the operator makes of each input, one at a time."""
    module = layer(case)
    out = []
    for x in case["x"]:
        q = torch._make_per_tensor_quantized_tensor(torch.from_numpy(x[None]), *module.x)
        out.append(module.operator(q, module.packed, *module.y).int_repr().numpy())
    return np.concatenate(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
    torch.backends.quantized.engine = "fbgemm"
    rng, arrays = np.random.default_rng(3), {"torch": np.array(torch.__version__)}
    cases = {f"linear_{k}x{n}": made(rng, (n, k), (k,), ()) for k, n in LINEAR}
    for i, (inputs, outputs, kernel, groups, padding, stride, dilation, size) in enumerate(CONVOLUTIONS):
        shape = (outputs, inputs // groups, kernel, kernel)
        cases[f"conv_{i}"] = made(rng, shape, (inputs, size, size), (groups, padding, stride, dilation))
    for name, case in cases.items():
        exact, answers = ask(case), []
        for isa in (AVX2, AVX512):
            force(isa)
            answers.append(ask(case))
        force(0)
        if not np.array_equal(*answers) or np.array_equal(answers[0], exact):
            raise SystemExit(f"{name}: the instruction sets differ, or no pair saturates; this needs a CPU with VNNI to compare with")
        arrays |= {f"{name}/{k}": v for k, v in (case | {"y": answers[0]}).items()}
    np.savez_compressed(output, **arrays)
    print(f"{output}: {output.stat().st_size} bytes, {sum(v.size for k, v in arrays.items() if k.endswith('/y'))} outputs")


if __name__ == "__main__":
    main()
