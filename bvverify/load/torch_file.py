"""A saved PyTorch module (.pt, .pth) to a network: a pickle of a whole module, or TorchScript.

Either can run any code when it is opened, so that nothing is opened without the user's word.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from pathlib import Path
from typing import cast

import numpy as np
import torch

from bvverify.errors import InputError, UsageError
from bvverify.load.profile import PyTorch
from bvverify.load.torch_module import line, network_of, traced
from bvverify.model.network import Network
from bvverify.run import oracle_torch


def load_file(path: Path, content: bytes, profile: PyTorch, *, allow_pickle: bool) -> Network:
    """The network of a saved module (torch.save of a module, or TorchScript), packed for the profile's engine."""
    if not allow_pickle:
        raise InputError(f"{path}: a PyTorch file can run any code when it is opened; if you trust where it comes from, add --allow-pickle")
    with oracle_torch.engine(profile.engine):
        module = _opened(path, content).eval()
        shape = profile.input_shape or _input_shape(path, module)
        trace = traced(str(path), module, np.zeros((1, *shape), np.float32))
    return network_of(str(path), module, trace, profile, hashlib.sha256(content).hexdigest())


def _opened(path: Path, content: bytes) -> torch.nn.Module:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            script = any("/code/" in name for name in archive.namelist())
    except zipfile.BadZipFile:
        script = False
    try:
        file = io.BytesIO(content)
        with warnings.catch_warnings():
            # PyTorch's own classes use what PyTorch has deprecated.
            warnings.simplefilter("ignore")
            opened = torch.jit.load(file) if script else torch.load(file, weights_only=False, map_location="cpu")  # type: ignore[no-untyped-call]
            if isinstance(opened, torch.nn.Module):
                # A pickled quantised convolution comes back as a torso (PyTorch 2.13); TorchScript keeps it whole.
                list(opened.modules())
    # Unpickling runs the file's own code, and may raise anything.
    except Exception as error:
        mend = "its classes have to be importable, or save it as TorchScript"
        raise InputError(f"{path}: PyTorch cannot open it: {line(error)}; {mend}") from error
    if not isinstance(opened, torch.nn.Module):
        raise InputError(f"{path}: holds {type(opened).__name__}, not a module; save the whole module with torch.save(module, ...)")
    return opened


def _input_shape(path: Path, module: torch.nn.Module) -> tuple[int, ...]:
    """What a module that begins with a linear layer takes; other files do not say."""
    for part in module.modules():
        kind = getattr(part, "original_name", type(part).__name__)
        if "Linear" in kind and isinstance(getattr(part, "in_features", None), int):
            return (cast(int, part.in_features),)
        if "Conv" in kind:
            break
    raise UsageError(f"{path}: the file does not say which shape it takes; say so, as in --semantics pytorch-fbgemm:input=1x28x28")
