"""The pages say what the program does: every command and session in them is run, and its output compared."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import make_pages
import pytest

from bvverify.cli import main

ROOT = Path(make_pages.ROOT)
LESSONS = sorted((ROOT / "encodings" / "course").glob("[0-9]*.md"), key=lambda page: (int(re.match(r"\d+", page.name)[0]), page.name))
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", make_pages.PAGES, ids=lambda page: page.stem)
def test_every_output_is_what_the_page_says(page):
    text = page.read_text()
    assert make_pages.run(text) == text


def test_the_course_is_whole_and_in_order():
    assert [page.name.partition("-")[0] for page in LESSONS] == ["1", "2", "3", "4", "4b", "5", "6", "7", "8", "9", "10", "11", "12"]
    entry = (ROOT / "encodings" / "README.md").read_text()
    assert re.findall(r"^(?:\d+\.|  ) \[.*?\]\(course/(.*?)\)", entry, re.MULTILINE) == [page.name for page in LESSONS]
    for page, following in pairwise(LESSONS):
        assert re.search(rf"\nNext: \[.*\]\({following.name}\)\.\n$", page.read_text())
    assert all(any(isinstance(part, make_pages.Step) for part in make_pages.parse(page.read_text())) for page in LESSONS)


@pytest.mark.parametrize("page", sorted((ROOT / "encodings").glob("**/*.md")), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        file, _, heading = target.partition("#")
        assert (page.parent / file).is_file(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", (page.parent / file).read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles]


def readme_commands():
    """The README's commands about bundled files, and the word that the comment behind each begins with."""
    for block in re.findall(r"^```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            command, _, comment = line.partition("#")
            words = shlex.split(command)
            files = [word.partition("::")[0] for word in words if re.search(r"\.\w+(::\d+)?$", word)]
            if words[:1] == ["bvverify"] and files and all(Path(file).parts[0] == "bvverify" for file in files):
                yield words[1:], comment.strip().partition(",")[0]


def test_there_are_commands_in_the_readme():
    assert len(list(readme_commands())) >= 4


@pytest.mark.parametrize(("words", "comment"), list(readme_commands()), ids=lambda v: " ".join(v) if isinstance(v, list) else v)
def test_the_commands_of_the_readme_run(words, comment, capsys):
    with make_pages.workplace():
        code = main(words)
    printed = capsys.readouterr()
    assert (code in (0, 10), printed.err) == (True, "")
    if comment in ("verified", "falsified", "equal", "differs"):
        assert printed.out.startswith(comment + "\n")


class TestRunner:
    """A runner that overlooks a difference would let the pages rot."""

    PAGE = (
        "Text.\n\n```console\n$ bvverify exercise --answer 7; echo $?\nwrong\n"
        "  try again, or see bvverify exercise --kind byte --seed 0 --solution\n10\n"
        "$ printf 'b\\na\\n' | sort\na\nb\n```\n\n"
        "```pycon\n>>> x = 6\n>>> for y in (1, 2):\n...     x * y\n6\n12\n```\n\n```pycon\n>>> x\n6\n```\n"
    )

    def test_it_leaves_a_page_that_is_right_as_it_is(self):
        assert make_pages.run(self.PAGE) == self.PAGE

    @pytest.mark.parametrize(
        ("old", "new"), [("wrong\n", "right\n"), ("\n10\n", "\n0\n"), ("\na\nb\n", "\nb\na\n"), ("6\n12", "6\n13"), ("6\n12\n", "6\n"),
                         (">>> x\n6\n", ">>> x\n"), ("Text", "Text"), ("echo $?\nwrong", "echo $?\nwrong\nwrong")],
    )  # fmt: skip
    def test_it_puts_right_what_is_wrong(self, old, new):
        assert old in self.PAGE
        assert make_pages.run(self.PAGE.replace(old, new)) == self.PAGE

    def test_a_command_that_fails_shows_its_error(self):
        page = make_pages.run("```console\n$ bvverify run none.onnx --input none.npy\n```\n")
        assert "bvverify: error: none.onnx: cannot be read: No such file or directory" in page

    def test_seconds_and_versions_of_runtimes_alone_are_not_compared(self):
        same = ("  stage      search, 1.69 s", "  stage      search, 12 s")
        assert make_pages.comparable(same[0]) == make_pages.comparable(same[1])
        assert make_pages.comparable("onnxruntime 1.32.0 agrees") == make_pages.comparable("onnxruntime 1.40.1 agrees")
        for a, b in (("litert (reference) 2.3.0", "litert (optimised) 2.3.0"), ("-112", "-113"), ("4 steps", "5 steps"), ("1.5", "1.6")):
            assert make_pages.comparable(a) != make_pages.comparable(b)

    def test_output_goes_where_the_command_says(self):
        page = "```console\n$ bvverify --version > file\n$ bvverify --version | tr -d b | wc -l; echo end\n1\nend\n$ wc -l < file\n1\n```\n"
        assert make_pages.run(page) == page

    def test_what_a_page_writes_stays_in_its_own_folder(self):
        page = "```console\n$ bvverify exercise --sheet sheet.md\nsheet  sheet.md\n$ ls\nbvverify\nencodings\nsheet.md\n```\n"
        assert make_pages.run(page) == page
        assert not Path("sheet.md").exists()

    @pytest.mark.parametrize("page", ["```console\nno command\n```\n", "```pycon\n>>> 1\n"])
    def test_a_block_that_cannot_be_read_is_an_error(self, page):
        with pytest.raises(ValueError, match=r"console block|does not end"):
            make_pages.run(page)
