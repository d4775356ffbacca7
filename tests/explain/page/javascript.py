"""Runs the page's scripts outside of the page: in Node.js, or in Chromium where that is what is installed."""

import json
import shutil
import subprocess
import tempfile
from importlib import resources

import pytest

CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
CHROMEDRIVER = shutil.which("chromedriver")
NO_BROWSER = "no headless browser: install Debian's chromium and chromium-driver to run this test"


def source(*names):
    folder = resources.files("bvverify.explain.page") / "js"
    return "\n".join((folder / f"{name}.js").read_text() for name in names)


def _node(node, program, argument):
    with tempfile.NamedTemporaryFile("w", suffix=".js") as file:
        file.write(program)
        file.flush()
        run = subprocess.run([node, file.name], input=json.dumps(argument), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def evaluate(scripts, body, argument):
    """What the function body ``body`` returns for ``argument`` (JSON data both), with ``scripts`` of the page in scope."""
    program = f'"use strict";\n{source(*scripts)}\nconst main = (argument) => {{ {body} }};\n'
    node = shutil.which("node") or shutil.which("nodejs")
    if node is not None:
        program += 'console.log(JSON.stringify(main(JSON.parse(require("fs").readFileSync(0, "utf8")))));'
        return json.loads(_node(node, program, argument))
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip("no JavaScript engine: install Debian's nodejs, or chromium and chromium-driver, to run this test")
    from browser import start

    driver = start()
    try:
        return driver.execute_script(program + "return main(arguments[0]);", argument)
    finally:
        driver.quit()
