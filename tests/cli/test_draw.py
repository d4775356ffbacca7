import io

import numpy as np

from bvverify.cli import draw

GREY = np.array([[0, 4], [8, 16]])


def test_ascii_runs_from_dark_to_bright():
    assert draw.image(GREY, 16, blocks=False, colour=False) == ["  ::", "==@@"]


def test_blocks_without_colours_use_shades():
    assert draw.image(GREY, 16, blocks=True, colour=False) == ["  ░░", "▒▒██"]


def test_half_blocks_put_two_rows_into_a_line():
    lines = draw.image(np.array([[0] * 16, [16] * 16]), 16, blocks=True, colour=True)
    assert lines == ["\x1b[38;5;232m\x1b[48;5;254m▀" * 16 + "\x1b[0m"]


def test_an_odd_height_is_filled_with_black():
    assert len(draw.image(np.zeros((3, 16), np.int64), 16, blocks=True, colour=True)) == 2


def test_changes_have_signs_and_one_width():
    assert draw.signed(np.array([[0, 2], [-12, 0]])) == ["   .  +2", " -12   ."]


def test_pictures_stand_beside_each_other():
    assert draw.beside(("a", ["12", "34"], 2), ("long", ["5"], 1)) == ["a    long", "12   5", "34"]


def test_a_file_is_no_terminal():
    assert not draw.colours(io.StringIO())
    assert not draw.unicode(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert draw.unicode(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
