"""doctor: every runtime that can be asked, and what is missing."""

import json

import pytest

from bvverify.run import oracle, oracle_litert, oracles


def test_every_oracle_is_listed_with_its_profiles(cli):
    outcome = cli("doctor", "--json")
    answer = json.loads(outcome.out)
    assert (outcome.code, answer["ok"]) == (0, True)
    oracles = {o["name"]: o for o in answer["oracles"]}
    assert list(oracles) == ["onnxruntime", "litert", "pytorch"]
    assert all(o["version"] and not o["missing"] for o in oracles.values())
    assert oracles["litert"]["profiles"] == ["tflite-reference", "tflite-optimised", "tflite-xnnpack"]
    assert oracles["pytorch"]["profiles"] == ["pytorch-fbgemm", "pytorch-qnnpack"]
    assert answer["cpu"]["vnni"] in (True, False, None)
    assert set(answer["self_test"].values()) == {"ok"}
    assert sum("what the interpreter does" in name for name in answer["self_test"]) == 2


CPUS = [
    ("avx512_vnni", "VNNI: uint8 by int8 is summed exactly"),
    # fbgemm knows VNNI of AVX512 alone.
    ("avx_vnni", ", VNNI: saturating pairs in pytorch-fbgemm, see"),
    ("avx2", "no VNNI: saturating pairs in onnxruntime and pytorch-fbgemm"),
    (None, "whether it has VNNI is unknown"),
]


@pytest.mark.parametrize(("feature", "words"), CPUS)
def test_what_is_missing_is_named_with_its_mend(cli, monkeypatch, feature, words):
    monkeypatch.setattr("bvverify.cli.self_test._CHECKS", {})
    monkeypatch.setattr(oracle, "installed", dict)
    monkeypatch.setattr(oracle, "_has", lambda *features: None if feature is None else feature in features)
    monkeypatch.setattr(oracle_litert, "version", lambda: None)
    monkeypatch.setattr(oracles, "ENGINES", ("fbgemm", "abacus"))
    out = cli("doctor").out
    assert words in out
    for extra in ("onnxruntime", "litert"):
        assert f"pip install 'bvverify[{extra}]'" in out
    assert "pytorch-fbgemm; this build has no engine abacus" in out
