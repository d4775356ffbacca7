"""Where the public benchmark data lies, and where it comes from when it is absent."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "benchmarks"

SOURCES = """the benchmark data is not here: put it into ../shared/benchmarks (beside the project's folder)
  nets/aaai21_*.h5, tasks/aaai21.csv          github.com/mlech26l/qnn_robustness_benchmarks (Henzinger, Lechner, Zikelic, AAAI 2021)
  nets/qvip_*.h5, tasks/qvip_table3.csv       github.com/QVIP22/Data (Zhang et al., ASE 2022)
  snn/*_weights_*.npy                         github.com/sizzflair97/SNN-Verification-Optimization (Seong et al., 2024)
  images/mnist_t10k_*.gz                      the MNIST database, test set, IDX
  images/fashion_mnist_test_first400.npz      the first 400 Fashion-MNIST test images (arrays images, labels)"""


def require() -> Path:
    """The folder of the benchmark data; ends the process with where to get it when it is absent."""
    if not FOLDER.is_dir():
        sys.exit(SOURCES)
    return FOLDER


IMAGES = {"mnist": "mnist_t10k_images.idx3.gz", "fashion-mnist": "fashion_mnist_test_first400.npz"}
NETWORKS = {
    "P1-4": ("qvip_P1-4.h5", 4),
    "P1-6": ("aaai21_mnist.h5", 6),
    "P1-8": ("qvip_P1-8.h5", 8),
    "P3-6": ("qvip_P3-6.h5", 6),
    "P3-8": ("qvip_P3-8.h5", 8),
}
