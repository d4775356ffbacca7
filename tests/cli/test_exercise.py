"""``exercise`` on the command line: exit codes, JSON, sheets."""

import json
import re

import pytest

from bvverify.exercise.question import KINDS, exercise


def test_the_kinds_take_turns(cli):
    asked = [json.loads(cli("exercise", "--seed", seed, "--json").out)["kind"] for seed in range(5)]
    assert asked == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_right_and_a_wrong_answer(cli, kind):
    asked = exercise(4, kind).question
    others = {"byte": ["-1"], "saturate": ["0,0,0"], "shift": ["127"], "property": ["true"]}.get(kind) or getattr(asked, "offered", [])
    wrong = next((other for other in others if other != asked.key()), None) or ",".join(map(str, asked.lo))
    right = cli("exercise", "--kind", kind, "--seed", 4, "--answer", asked.key())
    assert (right.code, right.out, right.err) == (0, "right\n", "")
    outcome = cli("exercise", "--kind", kind, "--seed", 4, "--answer", wrong)
    assert (outcome.code, outcome.first) == (10, "wrong")
    assert asked.key() not in outcome.out
    report = json.loads(cli("exercise", "--kind", kind, "--seed", 4, "--answer", wrong, "--json").out)
    assert (report["schema_version"], report["right"], report["answer"]) == (1, False, wrong)
    assert "key" not in report


def test_the_solution_shows_the_key(cli):
    asked = exercise(0, "byte").question
    outcome = cli("exercise", "--kind", "byte", "--solution")
    assert (outcome.code, outcome.first) == (0, f"answer: {asked.key()}")
    report = json.loads(cli("exercise", "--kind", "byte", "--solution", "--json").out)
    assert (report["key"], report["solution"]) == (asked.key(), asked.solution())


def test_a_sheet_and_its_key_in_markdown(cli, tmp_path):
    sheet, key = tmp_path / "sheet.md", tmp_path / "key.md"
    assert cli("exercise", "--sheet", sheet, "--key", key, "--count", 9, "--seed", 30).code == 0
    commands = re.findall(r"`bvverify (exercise .*) --answer \.\.\.`", sheet.read_text())
    answers = re.findall(r"^## \d+: (.+)$", key.read_text(), re.MULTILINE)
    assert len(commands) == len(answers) == 9
    for command, answer in zip(commands, answers, strict=True):
        assert cli(*command.split(), "--answer", answer).first == "right"


def test_a_sheet_and_its_key_in_json(cli, tmp_path):
    sheet, key = tmp_path / "sheet.json", tmp_path / "key.json"
    written = json.loads(cli("exercise", "--sheet", sheet, "--key", key, "--kind", "rule", "--json").out)
    assert (written["sheet"], written["count"]) == (str(sheet), 8)
    questions, answers = (json.loads(path.read_text())["questions"] for path in (sheet, key))
    assert [q["seed"] for q in questions] == [q["seed"] for q in answers] == list(range(8))
    assert all(q["kind"] == "rule" and "answer" not in q and "solution" not in q for q in questions)
    assert [q["answer"] for q in answers] == [exercise(seed, "rule").question.key() for seed in range(8)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seed", -1], "0 or more"),
        (["--answer", "many", "--kind", "byte"], "an integer such as -112"),
        (["--count", 3], "--sheet"),
        (["--sheet", "s.txt"], "ends in .md or .json"),
        (["--sheet", "nowhere/s.md"], "does not exist"),
        (["--sheet", "s.md", "--count", 0], "1 to 1000"),
        (["--sheet", "s.md", "--key", "s.md"], "name two"),
        (["--key", "k.md", "--answer", "3"], "leave out --answer"),
        (["--answer", "3", "--solution"], "one of --answer and --solution"),
        (["--kind", "essay"], "essay"),
    ],
)
def test_bad_usage_is_one_line(cli, arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = cli("exercise", *arguments)
    assert (outcome.code, outcome.out) == (1, "")
    assert says in outcome.err
    assert outcome.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
