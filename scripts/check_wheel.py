"""Builds the sdist and, from it, the wheel of the last commit; installs one in an empty environment, and runs it outside the checkout.

usage: scripts/check_wheel [--lowest] [--sdist] [--python PYTHON] [--keep FOLDER]
The newest versions of the dependencies that pyproject.toml allows are taken, or the oldest with --lowest. What is run: the demo, doctor, a
verdict with its certificate and the check of it, the Python API, and a look for the data files.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SMOKE = """
import importlib.metadata, importlib.util, pathlib, sys
import bvverify
from bvverify import examples
where = pathlib.Path(bvverify.__file__).parent
assert "site-packages" in where.parts, where
assert (where / "py.typed").is_file()
assert (where / "_encodings" / "README.md").is_file() and list((where / "_encodings").glob("**/*.smt2"))
assert importlib.util.find_spec("bvverify._encodings") is None or not list((where / "_encodings").glob("**/*.py"))
network = bvverify.load(examples.path("tiny.onnx"))
assert bvverify.robust(network, [[5, 3]], 1).verdict in set(bvverify.Verdict)
assert importlib.metadata.version("bvverify") == bvverify.__version__
print("API, types and data files are there")
"""


def lowest(dependencies: list[str]) -> list[str]:
    """``name==version.*`` of the oldest version that each requirement allows."""
    found = (re.fullmatch(r"([\w.-]+)\s*>=\s*([\w.]+).*", dependency) for dependency in dependencies)
    return [f"{match[1]}=={match[2]}.*" for match in found if match]


class Environment:
    """A virtual environment, and commands in it, in a folder that is not the checkout's."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder, self.bin = folder, folder / "env" / "bin"
        subprocess.run([python, "-m", "venv", folder / "env"], check=True)
        # Nothing of the environment that this script runs in may be found.
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}

    def run(self, *words: str | Path, quiet: bool = False) -> str:
        """Run a program of the environment; what it prints. ``SystemExit`` when it fails."""
        print(f"$ {' '.join(map(str, words))}", flush=True)
        command = [self.bin / str(words[0]), *words[1:]]
        done = subprocess.run(command, cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"check_wheel: it ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        if not quiet:
            print("".join(f"    {line}\n" for line in done.stdout.splitlines()[-12:]), end="", flush=True)
        return done.stdout


def build(work: Path, python: str) -> tuple[Path, Path]:
    """The sdist and the wheel of the last commit; the wheel is made from the sdist, so that nothing in it is the checkout's alone."""
    source, out = work / "source", work / "dist"
    source.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
    builder = Environment(work, python)
    builder.run("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "build", quiet=True)
    builder.run("python", "-m", "build", "--outdir", out, source, quiet=True)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    print(f"{sdist.name} {sdist.stat().st_size:,} bytes, {wheel.name} {wheel.stat().st_size:,} bytes")
    return sdist, wheel


def install_and_run(folder: Path, package: Path, python: str, oldest: bool) -> None:
    folder.mkdir()
    environment = Environment(folder, python)
    constraints = folder / "constraints.txt"
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    constraints.write_text("".join(f"{line}\n" for line in lowest(dependencies)) if oldest else "")
    environment.run("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", constraints, package, quiet=True)
    print(", ".join(sorted(environment.run("python", "-m", "pip", "list", "--format=freeze", quiet=True).split())))
    environment.run("python", "-c", SMOKE)
    environment.run("bvverify", "demo")
    environment.run("bvverify", "doctor")
    network, image = (environment.run("python", "-c", f"from bvverify import examples; print({what})", quiet=True).strip()
                      for what in ("examples.path('digits_mlp_qop.onnx')", "f'{examples.path(examples.IMAGES)}::1'"))  # fmt: skip
    question = (network, "--input", image, "--radius", "1")
    environment.run("bvverify", "robust", *question, "--certificate", "proof.bvcert")
    environment.run("bvverify", "check", "proof.bvcert")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/check_wheel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lowest", action="store_true", help="the oldest versions of the dependencies that are allowed")
    parser.add_argument("--sdist", action="store_true", help="install the sdist instead of the wheel")
    parser.add_argument("--python", default=sys.executable, help="the interpreter to make environments with (default: this one)")
    parser.add_argument("--keep", type=Path, help="work in this new folder, and leave it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bvverify-wheel-") as scratch:
        work = (arguments.keep or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        sdist, wheel = build(work, arguments.python)
        install_and_run(work / "installed", sdist if arguments.sdist else wheel, arguments.python, arguments.lowest)
    print("installed and run: everything is well")


if __name__ == "__main__":
    main()
