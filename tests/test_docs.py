"""The pages: their examples run, the names they speak of exist, the README stays short."""

import operator
import re
import shlex
from pathlib import Path

import pytest

import stpatch_jax as st
from stpatch_jax import cli

ROOT = Path(__file__).parents[1]
NOT_OURS = ("api", "command_line.md", "changelog.md")  # written at the build; it runs no examples
PAGES = [
    ROOT / "README.md",
    *(
        path
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if not {*path.relative_to(ROOT).parts} & {*NOT_OURS}
    ),
]
# In ```sh are commands of `stpatch`, in ```bash those that are not run.
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = {
    path.relative_to(ROOT).as_posix(): blocks
    for path in PAGES
    if (blocks := BLOCK.findall(path.read_text(encoding="utf-8")))
}


@pytest.mark.slow
@pytest.mark.parametrize("page", EXAMPLES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict = {"__name__": "example"}
    for language, code in EXAMPLES[page]:
        if language == "sh":
            for line in code.replace("\\\n", " ").splitlines():
                if line.startswith("stpatch "):
                    assert cli.main(shlex.split(line, comments=True)[1:]) == 0
        elif file := re.match(r"# (\w+\.py)\n", code):
            Path(file[1]).write_text(code, encoding="utf-8")
        else:
            exec(code, names)


def test_names_that_pages_speak_of_exist():
    told = {
        name
        for path in PAGES
        for name in re.findall(r"`st\.([\w.]+)", path.read_text(encoding="utf-8"))
    }
    assert len(told) > 30
    for name in told:
        operator.attrgetter(name)(st)


def test_the_readme_is_read_in_two_minutes():
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    examples = [code for language, code in EXAMPLES["README.md"] if language == "python"]
    assert [len(code.strip().splitlines()) <= 10 for code in examples] == [True] * 4


def test_pictures_are_small():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "pictures").iterdir()}
    assert sizes
    assert max(sizes.values()) < 150_000
