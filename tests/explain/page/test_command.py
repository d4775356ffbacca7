"""``bvverify report``: what it prints, what stands in the file, and one clear line for every bad input."""

import json

import pytest

from bvverify import examples
from bvverify.cli import main

MLP, IMAGES = str(examples.path("digits_mlp_qop.onnx")), str(examples.path(examples.IMAGES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


def decided(capsys, folder, name, *arguments):
    capsys.readouterr()
    main([*map(str, arguments), "--json"])
    file = folder / f"{name}.json"
    file.write_text(capsys.readouterr().out)
    return file


@pytest.fixture
def verified(capsys, folder):
    return decided(
        capsys, folder, "verified", "robust", MLP, "--input", f"{IMAGES}::0", "--radius", 1, "--certificate", folder / "p.bvcert"
    )


@pytest.fixture
def falsified(capsys, folder):
    return decided(capsys, folder, "falsified", "attack", MLP, "--input", f"{IMAGES}::7", "--radius", 5)


def report(capsys, *arguments):
    capsys.readouterr()
    code = main(["report", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def embedded(page):
    return json.loads(page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])


def test_one_file(capsys, verified, tmp_path):
    code, out, err = report(capsys, verified, "--html", tmp_path / "page.html", "--json")
    assert (code, err) == (0, "")
    page = (tmp_path / "page.html").read_text()
    said = json.loads(out)
    assert said["bytes"] == len(page.encode())
    assert [r["verdict"] for r in said["results"]] == ["verified"]
    assert page.startswith("<!DOCTYPE html>")
    assert " src=" not in page
    data = embedded(page)["results"][0]
    assert data["sentence"] == "The class stays 0 for every input within 1 integer step of digits.npz::0."
    assert data["command"].startswith("bvverify robust ")
    assert data["trees"][0]["total"] == 9


def test_the_command_asks_the_same_question(capsys, falsified):
    import shlex

    code, page, _ = report(capsys, falsified, "--html", "-")
    assert code == 0
    words = shlex.split(embedded(page)["results"][0]["command"])
    main([*words[1:], "--json"])
    again, before = json.loads(capsys.readouterr().out), json.loads(falsified.read_text())
    assert [again[k] for k in ("verdict", "asked", "property", "semantics")] == [
        before[k] for k in ("verdict", "asked", "property", "semantics")
    ]
    assert again["witness"]["input"] == before["witness"]["input"]


def test_networks_are_shared(capsys, verified, falsified, tmp_path):
    assert report(capsys, verified, falsified, "--html", tmp_path / "page.html")[0] == 0
    data = embedded((tmp_path / "page.html").read_text())
    assert len(data["networks"]) == 1
    assert [r["network"] for r in data["results"]] == [0, 0]


def test_a_property_file(capsys, folder):
    file = decided(capsys, folder, "property", "verify", MLP, examples.path(examples.PROPERTY), "--certificate", folder / "q.bvcert")
    _, page, _ = report(capsys, file, "--html", "-")
    data = embedded(page)["results"][0]
    assert data["sentence"].endswith(f"in the box of {examples.PROPERTY}.")
    assert data["reference"]["name"] == "centre of the box"
    assert len(data["trees"]) == 1


def edited(file, tmp_path, change):
    data = json.loads(file.read_text())
    change(data)
    (tmp_path / "bad.json").write_text(json.dumps(data))
    return tmp_path / "bad.json"


BAD = {
    "schema": (lambda d: d.update(schema_version=99), 2, "schema_version is 99"),
    "command": (lambda d: d.update(command="compare"), 2, "holds no result of verify, robust, attack"),
    "another model": (lambda d: d["model"].update(sha256="f" * 64), 2, "is about another model"),
    "moved model": (lambda d: d["model"].update(path="gone.onnx"), 2, "gone.onnx: cannot be read"),
    "stages": (lambda d: d.update(stages=[1]), 2, "stages or asked.model is not what it should be"),
    "asked": (lambda d: d["asked"].update(radius="one"), 2, "asked is not what it should be"),
    "moved input": (lambda d: d["asked"].update(input="gone.npz::0"), 2, "its question cannot be asked again: gone.npz"),
    "question": (lambda d: d["property"].update(text="another"), 2, "its question has changed since"),
    "wider box": (lambda d: d["asked"].update(radius=2), 2, "the kernel rejects it: it is about another box"),
    "no certificate": (lambda d: d.update(certificate=["gone.bvcert"]), 2, "gone.bvcert: No such file"),
    "certificates": (lambda d: d.update(certificate=["a", "b"]), 2, "2 certificates for 1 boxes"),
    "checked": (lambda d: d.update(checked={"claims": 1}), 2, "checked does not count"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_results(capsys, verified, tmp_path, name):
    change, wanted, text = BAD[name]
    code, out, err = report(capsys, edited(verified, tmp_path, change), "--html", tmp_path / "page.html")
    assert (code, out) == (wanted, "")
    assert text in err
    assert err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_a_witness_that_does_not_replay(capsys, falsified, tmp_path):
    def change(data):
        data["witness"]["output"][0] += 1

    code, _, err = report(capsys, edited(falsified, tmp_path, change), "--html", tmp_path / "page.html")
    assert (code, err.count("\n")) == (2, 1)
    assert "the recorded outputs are not what the interpreter computes" in err


def test_bad_arguments(capsys, verified, tmp_path):
    assert "name a file" in report(capsys, verified, "--html", "-", "--json")[2]
    assert "does not exist" in report(capsys, verified, "--html", tmp_path / "no" / "page.html")[2]
    (tmp_path / "text.json").write_text("verified")
    assert "is no JSON file" in report(capsys, tmp_path / "text.json", "--html", tmp_path / "page.html")[2]
    assert report(capsys, tmp_path / "gone.json", "--html", tmp_path / "page.html")[0] == 2
