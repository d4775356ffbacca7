"""Certificates of a batch, checked again from their files in a process of its own, without torch, z3 or the search."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np


def check(verified: list[dict]) -> None:
    """Every certificate again, from its file, in a process that has neither torch nor z3 nor the search."""
    files = [(a["certificate"][0], a["model"], a["semantics"]) for a in verified]
    if not files:
        return
    code = """
import json, sys, time
for gone in ('torch', 'z3', 'bvverify.search', 'bvverify.encode', 'bvverify.solve', 'bvverify.attack'):
    sys.modules[gone] = None
from pathlib import Path
from bvverify.certify import kernel
from bvverify.cli.check import stated
from bvverify.load import certificate_file
from bvverify.load.load import load
networks, seconds, unchecked = {}, [], 0
for file, model, semantics in json.load(sys.stdin):
    network = networks.setdefault((model, semantics), None) or load(Path(model), semantics)
    networks[model, semantics] = network
    begun = time.monotonic()
    read = certificate_file.read(Path(file))
    report = kernel.check(read, stated(read, network))
    seconds.append(time.monotonic() - begun)
    unchecked += report.solver_leaves
print(json.dumps([seconds, unchecked]))
"""
    # One core, as each task has: the threads of a BLAS only get in each other's way on products of this size.
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    out = subprocess.run([sys.executable, "-c", code], input=json.dumps(files), capture_output=True, text=True, env=environment)
    if out.returncode:
        sys.exit(f"a certificate was not accepted: {out.stderr.strip().splitlines()[-1]}")
    seconds, unchecked = json.loads(out.stdout)
    sizes = [Path(file).stat().st_size for file, *_ in files]
    solving = sum(a["seconds"] for a in verified)
    print(f"  certificates: {len(files)} accepted, {unchecked} solver leaves; bytes median {int(np.median(sizes))} max {max(sizes)}")
    share = sum(seconds) / solving
    print(f"  check in a fresh process: {sum(seconds):.2f} s, {share:.2f} of the solving time; max {max(seconds):.2f} s", flush=True)
