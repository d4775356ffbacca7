"""The file of answers: what is skipped, what is decided again."""

import json

import pytest

from bvverify.cli.batch_file import AnswerFile
from bvverify.errors import InputError

ROWS = [{"model": "m", "input": f"x::{i}", "label": "", "radius": "1"} for i in (0, 1, 1, 2)]


def _answer(i, verdict="verified"):
    return {**ROWS[i], "verdict": verdict}


def test_a_new_file_has_everything_to_do(tmp_path):
    with AnswerFile(tmp_path / "out.jsonl") as answers:
        assert answers.open_rows(ROWS) == ([0, 1, 2, 3], [])


def test_answers_cover_their_rows_and_duplicates_one_each(tmp_path):
    path = tmp_path / "out.jsonl"
    with AnswerFile(path) as answers:
        answers.append(_answer(3))
        answers.append(_answer(1, "falsified"))
    with AnswerFile(path) as answers:
        missing, found = answers.open_rows(ROWS)
    assert missing == [0, 2]
    assert [a["verdict"] for a in found] == ["falsified", "verified"]


def test_a_torn_last_line_is_dropped_and_nothing_else(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text(json.dumps(_answer(0)) + "\n" + json.dumps(_answer(3))[:-5])
    with AnswerFile(path) as answers:
        assert answers.open_rows(ROWS)[0] == [1, 2, 3]
        answers.append(_answer(3))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [_answer(0), _answer(3)]


@pytest.mark.parametrize("line", ["no JSON", "[1]", '{"model": "m"}', '{"verdict": "verified"}'])
def test_a_line_that_is_no_answer_is_refused_with_its_number(tmp_path, line):
    path = tmp_path / "out.jsonl"
    path.write_text(json.dumps(_answer(0)) + "\n" + line + "\n")
    with pytest.raises(InputError, match=r"out\.jsonl, line 2"), AnswerFile(path):
        pass


def test_a_row_with_another_spelling_is_another_row(tmp_path):
    path = tmp_path / "out.jsonl"
    with AnswerFile(path) as answers:
        answers.append({**_answer(0), "radius": "01"})
    with AnswerFile(path) as answers:
        assert answers.open_rows(ROWS)[0] == [0, 1, 2, 3]
