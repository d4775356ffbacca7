"""The page in a headless browser: what a reader clicks, and that the numbers that follow equal the interpreter's.

Left out, visibly, where no chromium is installed.
"""

import contextlib
import io
import json
import re

import numpy as np
import pytest
from browser import requests, start, view
from javascript import source

from bvverify import examples
from bvverify.cli import main
from bvverify.explain.page.document import document
from bvverify.explain.page.results import Shown, page_data
from bvverify.load.load import load
from bvverify.model import requant as rq
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Conv2d, Dense, Reshape
from bvverify.model.query import Box, Property, Query
from bvverify.model.staircase import Staircase
from bvverify.model.types import QType, Tensor
from bvverify.run import interpreter

MLP, IMAGES = examples.path("digits_mlp_qop.onnx"), examples.path(examples.IMAGES)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Result files of the three verdicts."""
    folder = tmp_path_factory.mktemp("results")
    asked = {
        "falsified": ["attack", MLP, "--input", f"{IMAGES}::7", "--radius", "4"],
        "verified": ["robust", MLP, "--input", f"{IMAGES}::14", "--radius", "2", "--certificate", folder / "proof.bvcert"],
        "unknown": ["robust", MLP, "--input", f"{IMAGES}::7", "--radius", "3", "--timeout", "1e-6"],
    }
    for name, arguments in asked.items():
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            main([*map(str, arguments), "--json"])
        assert json.loads(out.getvalue())["verdict"] == name
        (folder / f"{name}.json").write_text(out.getvalue())
    return folder


@pytest.fixture(scope="module")
def pages(results):
    """The page of each result, and one of all of them."""
    made = {name: [results / f"{name}.json"] for name in ("falsified", "verified", "unknown")}
    made["all"] = [file for files in made.values() for file in files]
    for name, files in made.items():
        assert main(["report", *map(str, files), "--html", str(results / f"{name}.html")]) == 0
    return results


@pytest.fixture(scope="module")
def driver():
    browser = start()
    yield browser
    browser.quit()


@pytest.fixture
def opened(driver, pages):
    """Opens a page; afterwards the console is empty and nothing was asked for but the page's own file."""
    addresses = []

    def open_page(name):
        requests(driver)
        addresses.append((pages / f"{name}.html").as_uri())
        driver.get(addresses[-1])
        return driver

    yield open_page
    assert driver.get_log("browser") == []
    assert set(requests(driver)) <= set(addresses)


def find(driver, css):
    from selenium.webdriver.common.by import By

    return driver.find_element(By.CSS_SELECTOR, css)


def every(driver, css):
    from selenium.webdriver.common.by import By

    return driver.find_elements(By.CSS_SELECTOR, css)


def cell(driver, tensor, row, side):
    return find(driver, f"[data-tensor='{tensor}'] [data-row='{row}'] [data-side='{side}']").text.removeprefix("≠ ")


def output(driver, tensor, side):
    return int(find(driver, f"[data-tensor='{tensor}'] [data-row='output'] [data-side='{side}'] output").text.replace("−", "-"))


def choose(driver, tensor, name, value):
    from selenium.webdriver.support.ui import Select

    Select(find(driver, f"[data-tensor='{tensor}'] [name='{name}']")).select_by_value(value)


def type_in(driver, tensor, name, text):
    from selenium.webdriver.common.keys import Keys

    field = find(driver, f"[data-tensor='{tensor}'] [name='{name}']")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text, Keys.TAB)


def open_neuron(driver, tensor, unit):
    """With the keyboard, as a reader without a mouse."""
    from selenium.webdriver.common.keys import Keys

    strips = find(driver, f"[data-tensor='{tensor}'] .strips")
    strips.send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * unit, Keys.ENTER)


def accumulator(network, tensor, unit, x):
    """The interpreter's, before it wraps."""
    op = network.ops[tensor - 1]
    assert isinstance(op, Dense | Conv2d)
    return int(interpreter.accumulate(op, interpreter.trace(network, x[None])[op.x]).ravel()[unit])


def requantised(op, requant, acc):
    return int(rq.apply(requant, np.array([[acc]]), op.staircase.lo, op.staircase.hi)[0, 0])


def test_the_verdict_comes_first(opened):
    driver = opened("falsified")
    text = find(driver, "article header").text
    assert text.startswith("✕\nFalsified\nAn input within 4 integer steps of digits.npz::7 is class")
    assert "onnxruntime (float32-half-even)" in text
    assert [f.text.split("\n")[0].split()[0] for f in every(driver, ".figures figcaption")] == ["original", "adversarial", "difference"]
    # Each picture is drawn: more than one colour in it.
    colours = "return new Set(new Uint32Array(arguments[0].getContext('2d').getImageData(0, 0, 8, 8).data.buffer)).size"
    assert all(driver.execute_script(colours, canvas) > 2 for canvas in every(driver, ".figures canvas"))


def test_a_neuron_follows_its_rule_and_equals_the_interpreter(opened, results):
    driver = opened("falsified")
    data = json.loads((results / "falsified.json").read_text())
    network = load(MLP)
    x = np.array(data["witness"]["input"]).reshape(network.input.tensor.shape)
    tensor, unit = next((t, 5) for t, op in enumerate(network.ops, 1) if isinstance(op, Dense))
    op, acc = network.ops[tensor - 1], accumulator(network, tensor, 5, x)
    real = op.staircase.requant.multiplier[unit % len(op.staircase.requant.multiplier)]
    open_neuron(driver, tensor, unit)
    assert cell(driver, tensor, "accumulator", "A") == str(acc).replace("-", "−")
    assert output(driver, tensor, "A") == int(interpreter.trace(network, x[None])[tensor].ravel()[unit])
    assert "the interpreter's, too" in cell(driver, tensor, "output", "A")
    assert int(cell(driver, tensor, "in bits", "A").replace(" ", ""), 2) == acc % 2**32
    # Another zero point and multiplier, so that rules part; then every rule in turn.
    type_in(driver, tensor, "zero-point", "7")
    assert output(driver, tensor, "B") == requantised(op, rq.Float32HalfEven(np.array([real]), 7), acc)
    # It joins behind the rounding, so that the number that is rounded stays.
    for row in ("exact value before rounding", "from the nearest tie"):
        assert cell(driver, tensor, row, "B") == cell(driver, tensor, row, "A")
    half = 0.5 / abs(acc) if acc else 0.5
    seen = set()
    for multiplier in (float(np.float32(0.3)), half * 5):
        type_in(driver, tensor, "multiplier", repr(multiplier))
        mantissa, shift = (np.array([v]) for v in rq.q31(multiplier))
        single = np.array([multiplier], np.float32)
        expected = {
            "q31-double": rq.Q31Double(mantissa, shift, 7),
            "q31-half-up": rq.Q31HalfUp(mantissa, shift, 7),
            "q31-single": rq.Q31Single(mantissa, shift, 7),
            "float32-half-even": rq.Float32HalfEven(single, 7),
            "qnnpack": rq.Qnnpack(single, 7),
            "fbgemm": rq.Fbgemm(single, None, np.ones(1, np.float32), False, 7),
            "float64-away": rq.Float64Away(np.array([multiplier]), 7),
            "rational-half-up": rq.RationalHalfUp((rq.Fraction(repr(multiplier)),), 7),
        }
        for rule, requant in expected.items():
            choose(driver, tensor, "rule", rule)
            assert rule in find(driver, f"[data-tensor='{tensor}'] .row.head .cell:last-child").text
            assert output(driver, tensor, "B") == requantised(op, requant, acc), (rule, multiplier)
            seen.add(output(driver, tensor, "B"))
    assert len(seen) > 2
    # The accumulator's width wraps it.
    choose(driver, tensor, "bits", "8")
    wrapped = (acc + 128) % 256 - 128
    assert cell(driver, tensor, "accumulator", "B").split(",")[0] == str(wrapped).replace("-", "−")
    find(driver, f"[data-tensor='{tensor}'] [name='reset']").click()
    assert output(driver, tensor, "B") == output(driver, tensor, "A")


def test_a_click_opens_the_neuron_under_it(opened):
    driver = opened("falsified")
    tensor = int(find(driver, ".layer").get_attribute("data-tensor"))
    from selenium.webdriver.common.action_chains import ActionChains

    cells = find(driver, f"[data-tensor='{tensor}'] .cells")
    # 32 neurons in one row: the centre of the cell of neuron 20.
    ActionChains(driver).move_to_element_with_offset(cells, int(cells.size["width"] * (20.5 / 32 - 0.5)), 0).click().perform()
    assert find(driver, f"[data-tensor='{tensor}'] .panel .title").text.endswith("[20] is computed")
    assert find(driver, f"[data-tensor='{tensor}'] .number-line svg").get_attribute("aria-label").count("output") == 2


def test_a_wrong_multiplier_is_marked_and_changes_nothing(opened):
    driver = opened("falsified")
    tensor = int(every(driver, ".layer")[-1].get_attribute("data-tensor"))
    before = output(driver, tensor, "B")
    type_in(driver, tensor, "multiplier", "minus one")
    assert find(driver, f"[data-tensor='{tensor}'] [name='multiplier']").get_attribute("aria-invalid") == "true"
    assert output(driver, tensor, "B") == before


def test_the_whole_network_under_a_second_rule(opened, results):
    from selenium.webdriver.support.ui import Select

    driver = opened("falsified")
    data = json.loads((results / "falsified.json").read_text())
    network = load(MLP, "onnxruntime+rational-half-up")
    x = np.array(data["witness"]["input"]).reshape(network.input.tensor.shape)
    Select(find(driver, "[name='second-semantics']")).select_by_value("rational-half-up")
    own, ideal = interpreter.trace(load(MLP), x[None]), interpreter.trace(network, x[None])
    changed = sum(int((a != b).sum()) for a, b in zip(own, ideal, strict=True))
    assert f"changes {changed} values in all" in find(driver, ".outcome").text
    assert every(driver, ".layer")[0].text.count("under rational-half-up")


def test_the_tree_opens_node_by_node(opened):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    driver = opened("verified")
    assert "Verified" in find(driver, "article header").text
    roots = every(driver, ".roots > details")
    assert roots
    assert not every(driver, ".roots details details, .roots details .leaf")
    find(driver, ".roots > details > summary").send_keys(Keys.ENTER)
    # The browser tells of an opened disclosure a moment after the key.
    parts = WebDriverWait(driver, 30).until(lambda d: every(d, ".roots > details[open] > .below > .node"))
    assert len(parts) == 2
    assert [p.find_element("css selector", ".side").text[0] for p in parts] == ["≤", "≥"]
    assert all("excess ≥" in p.text or "no input" in p.text for p in parts)
    assert re.search(r"layer\d_node \[\d+\], an accumulator in", find(driver, ".roots > details > summary").text)
    assert "It accepted the saved certificate again" in find(driver, "article").text


def test_several_results_have_contents(opened):
    driver = opened("all")
    assert [item.text.split()[1] for item in every(driver, "nav li")] == ["Falsified:", "Verified:", "Unknown:"]
    for link, article in zip(every(driver, "nav a"), every(driver, "article"), strict=True):
        assert link.get_attribute("href").endswith("#" + article.get_attribute("id"))
        assert article.find_element("css selector", ".command code").text.startswith("bvverify ")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_overflows(opened, width, dark):
    driver = opened("all")
    try:
        view(driver, width, dark)
        assert driver.execute_script("return document.documentElement.scrollWidth") == width
        ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(","))) < 200) == dark
    finally:
        view(driver)


def image_result(shape, witness):
    """A result about images of a shape, channels in front or behind."""
    rng = np.random.default_rng(2)
    size = int(np.prod(shape))
    op = Dense.of("last", 1, rng.integers(-9, 9, (2, size)), np.zeros(2, int), Staircase(rq.ShiftHalfUp(9), -128, 127))
    tensors = (Tensor("x", shape, QType(8, False)), Tensor("flat", (size,), QType(8, False)), Tensor("y", (2,), QType(8, True)))
    made = Provenance("m.tflite", "tflite", "tflite-xnnpack", "0" * 64)
    network = Network(Input(tensors[0], (1, *shape)), (Reshape("flat", 0, (size,)), op), tensors, Output(2, (1, 2)), made)
    x = rng.integers(60, 200, shape)
    lo, hi = x - rng.integers(0, 3, shape), x + 2
    query = Query(network, Box.of(lo, hi), Property.robustness(0, 2), x)
    data = {
        "command": "robust",
        "verdict": "falsified" if witness else "unknown",
        "reason": "",
        "seconds": 1,
        "semantics": "tflite-xnnpack",
    }
    asked = {"model": "m.tflite", "input": "x", "radius": 3}
    return Shown("a.json", data | {"stages": [], "asked": asked}, network, query, hi if witness else None)


PIXELS = """return [...document.querySelectorAll('.figures canvas')].map((c) =>
  [c.width, c.height, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]])"""


@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 5, 6), (5, 6, 1), (5, 6, 3)], ids=str)
def test_images_are_drawn_wherever_their_channels_stand(driver, tmp_path, shape):
    shown = image_result(shape, witness=True)
    (tmp_path / "image.html").write_text(document(page_data([shown]), "image"))
    driver.get((tmp_path / "image.html").as_uri())
    (width, height, data), _, _ = driver.execute_script(PIXELS)
    assert (width, height) == (6, 5)
    assert not every(driver, "svg.bars")
    x = shown.query.nominal
    lo, hi = min(x.min(), shown.witness.min()), max(x.max(), shown.witness.max())
    planes = x if shape[0] in (1, 3) else x.transpose(2, 0, 1)
    level = np.broadcast_to((planes - lo) / (hi - lo) * 255, (3, 5, 6)).transpose(1, 2, 0)
    assert np.abs(np.array(data).reshape(5, 6, 4)[:, :, :3] - level).max() <= 0.5
    (tmp_path / "box.html").write_text(document(page_data([image_result(shape, witness=False)]), "box"))
    driver.get((tmp_path / "box.html").as_uri())
    assert len(driver.execute_script(PIXELS)) == 2
    assert "grey: fewer" in every(driver, ".figures figcaption")[1].text
    assert driver.get_log("browser") == []


def vector_result():
    """A result about a network of vectors, whose names and texts look like markup."""
    rng = np.random.default_rng(1)
    stairs = Staircase(rq.ShiftHalfUp(4), -128, 127)
    wide, last = (rng.integers(-9, 9, shape) for shape in ((40, 12), (3, 40)))
    ops = (Dense.of("wide", 0, wide, np.zeros(40, int), stairs), Dense.of("last", 1, last, np.zeros(3, int), stairs))
    tensors = tuple(Tensor(name, (size,), QType(8, True)) for name, size in (("x", 12), ("h", 40), ("y", 3)))
    made = Provenance("</script><b>.onnx", "onnx", "onnxruntime", "0" * 64)
    network = Network(Input(tensors[0], (1, 12)), ops, tensors, Output(2, (1, 3)), made)
    x = rng.integers(-99, 99, 12)
    query = Query(network, Box.of(x - 2, x + 3), Property((), "</script><script>alert(1)</script>"), x)
    asked = {"model": "m", "input": "<i>", "radius": 3}
    data = {
        "command": "robust",
        "verdict": "unknown",
        "reason": "<b>",
        "seconds": 1,
        "semantics": "onnxruntime",
        "stages": [],
        "asked": asked,
    }
    return Shown("a.json", data, network, query)


def test_vectors_large_layers_and_text_that_looks_like_markup(driver, tmp_path, monkeypatch):
    monkeypatch.setattr("bvverify.explain.page.networks.MOST_WEIGHTS", 200)
    (tmp_path / "vector.html").write_text(document(page_data([vector_result()]), "</title><script>alert(1)</script>"))
    driver.get((tmp_path / "vector.html").as_uri())
    heights = [float(bar.get_attribute("height")) for bar in every(driver, "svg.bars rect.bar")]
    ground = float(every(driver, "svg.bars .axis")[0].get_attribute("d").partition(" ")[2].partition("H")[0])
    feet = [float(bar.get_attribute("y")) for bar in every(driver, "svg.bars rect.bar")]
    assert len(heights) == 12
    # Every bar stands on the type's least value, a longer one for a larger value.
    assert all(abs(y + height - ground) < 1e-6 for y, height in zip(feet, heights, strict=True))
    assert np.array_equal(np.argsort(heights), np.argsort(vector_result().query.nominal, kind="stable"))
    assert "from −128, the least int8" in find(driver, ".figures .key").text
    assert every(driver, ".layers .note")[0].text.startswith("The network is too large")
    open_neuron(driver, 1, 3)
    assert "The 480 weights of this layer" in find(driver, "[data-tensor='1'] .panel").text
    open_neuron(driver, 2, 1)
    assert "the interpreter's, too" in cell(driver, 2, "output", "A")
    assert "</script><script>alert(1)</script>" in find(driver, "h2").text
    assert not every(driver, "main b b, main i")
    assert driver.get_log("browser") == []


def test_a_policy_forbids_the_network(opened):
    """A page whose data were to smuggle in markup could still fetch nothing."""
    driver = opened("falsified")
    blocked = driver.execute_async_script(
        "const done = arguments[0]; document.addEventListener('securitypolicyviolation', (e) => done(e.violatedDirective));"
        "fetch('https://example.invalid/').catch(() => {});"
    )
    assert blocked == "connect-src"
    assert any("Content Security Policy" in entry["message"] for entry in driver.get_log("browser"))
    requests(driver)


def test_scripts_name_no_address():
    names = ("arithmetic", "network", "dom", "charts", "number_line", "neuron", "layers", "tree", "main")
    assert "://" not in source(*names).replace("http://www.w3.org/2000/svg", "")
