"""scripts/mutants: what it changes, what it takes for killed, and its list of mutants that may survive."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mutmut")
from mutation import command, explained, mutants

ROOT = Path(command.ROOT)
SOURCE = '''"""A file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Two:
    lo: int = 3


def least(lo, hi, xs):
    """The least."""
    if lo > hi:
        raise ValueError(f"{lo} is above {hi}")
    total = [x // 2 for x, _ in zip(xs, xs, strict=True)]
    total.append(min(lo, hi))
    return min(total)
'''


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    (folder / "least.py").write_text(SOURCE)
    return list(mutants.of_file(folder / "least.py", folder))


@pytest.mark.parametrize(
    ("function", "change"),
    [
        ("Two", "3 -> 4"),
        ("Two", "3 -> 2"),
        ("least", "> -> >="),
        ("least", "lo > hi: -> (lo > hi) and False:"),
        ("least", "lo > hi: -> (lo > hi) or True:"),
        ("least", "// -> /"),
        ("least", "total.append(min(lo, hi)) -> pass"),
        ("least", "min(total) -> max(total)"),
        ("least", "total.append(min(lo, -> total.append(max(lo,"),
    ],
)
def test_it_changes_one_place(made, function, change):
    (found,) = [m for m in made if (m.function, m.change) == (function, change)]
    assert found.text != SOURCE
    compile(found.text, "mutant", "exec")
    assert SOURCE.splitlines()[found.number - 1].strip() == found.line


def test_checks_of_the_code_and_words_stay_as_they_are(made):
    assert not [m for m in made if "strict" in m.change or "frozen" in m.change or "is above" in m.diff(SOURCE).partition("\n+")[2]]
    assert len({m.key for m in made}) == len(made)
    assert len({(m.function, m.line, m.change) for m in made}) == len(made)


def test_a_mutant_is_killed_by_a_test_that_notices_it_and_survives_others():
    """In a process of its own: the staircase's file, of which one mutant is a fault and one is not."""
    program = """
from pathlib import Path
from mutation.command import ROOT
from mutation.fork import Warm
file = "bvverify/model/staircase.py"
text = (ROOT / file).read_text()
warm = Warm(ROOT, file, ["tests/model/test_staircase.py"])
fault = text.replace('side="right"', 'side="left"')
harmless = text.replace("shape = (rq", "shape = tuple((rq").replace("len(levels))", "len(levels)))")
loop = text.replace("while (reaches - below > 1).any():", "while True:")
assert len({text, fault, harmless, loop}) == 4
print([warm.test(t, seconds)[0] for t, seconds in ((text, 120), (fault, 120), (harmless, 120), (loop, 8))])
"""
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.stdout.splitlines()[-1:] == ["['survived', 'killed', 'survived', 'timed out']"], done.stderr


def test_the_list_is_about_mutants_that_exist():
    """An entry that fits nothing was left behind by a change of the code."""
    targets, listed = explained.read(ROOT / "tests" / "mutants.toml")
    files = sorted(targets.files(ROOT))
    assert {f"bvverify/certify/{name}.py" for name in ("kernel", "dual", "ranges", "steps")} <= set(files)
    assert "bvverify/model/requant.py" in files
    assert all((ROOT / test).exists() for file in files for test in targets.tests(file))
    assert listed.unused([m for file in files for m in mutants.of_file(ROOT / file, ROOT)]) == []


def test_three_dots_stand_for_anything(made):
    some = explained.Explained(({"file": "least.py", "line": "if ...:", "changes": ["...and False:"], "reason": "why"},))
    assert {m.change for m in made if some.reason(m)} == {"lo > hi: -> (lo > hi) and False:"}
    assert some.unused(made) == []
    other = explained.Explained(({"file": "least.py", "function": "most", "reason": "why"},))
    assert other.unused(made) == ["least.py: most"]
