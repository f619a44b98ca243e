"""Companies with names that steer terminals, pages and spreadsheets, through a whole run."""

import csv

import numpy as np
import pandas as pd
import pytest
from small_panel import flags

from stpatch_jax.cli import main

HOSTILE = (
    "=cmd|' /C calc'!A0",
    "a|b`c`",
    "<img src=x onerror=alert(1)>",
    "\x1b[31mred\x1b[0m",
    "bidi\u202egnp.exe",
    "$\\frac$ $x",
    "new\nline",
    "![x](http://example.org)",
    "-5",
)
PLAIN = tuple(f"company {number}" for number in range(len(HOSTILE)))


def report_and_table(folder, names):
    folder.mkdir()
    rng = np.random.default_rng(0)
    prices = 50 * np.exp(np.cumsum(0.05 * rng.normal(size=(80, len(names))), axis=0))
    table = pd.DataFrame(prices, columns=names)
    table.insert(0, "Date", pd.date_range("2000-01-01", periods=80, freq="MS"))
    table.to_csv(folder / "prices.csv", index=False)
    run, out = folder / "run", folder / "out.csv"
    assert main(flags(folder / "prices.csv", run, steps=2)) == 0
    assert main(["predict", str(run), str(folder / "prices.csv"), str(out)]) == 0
    assert main(["explain", str(run), "--method", "occlusion", "--target", names[2]]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = [(run / name).read_text(encoding="utf-8") for name in ("report.md", "explanation.md")]
    return rows, texts


@pytest.mark.slow
def test_names_change_nothing_but_themselves(tmp_path, capfd):
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    rows, texts = report_and_table(tmp_path / "hostile", HOSTILE)
    told = capfd.readouterr()
    for text in (*texts, told.out, told.err.replace("\x1b[A", "")):
        assert "\x1b" not in text
        assert "\u202e" not in text
    plain, expected = report_and_table(tmp_path / "plain", PLAIN)
    named = dict(zip(PLAIN, HOSTILE, strict=True))
    # The table of forecasts is as wide as that of prices, with the names above.
    found = list(rows[0])[3:]
    assert len(found) == len(HOSTILE)
    assert not [name for name in found if name[0] in "=@+"]
    for company in list(plain[0])[3:]:
        # A header of two lines is read as one.
        shown = " ".join(named[company].split())
        shown = shown.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
        own = f"'{shown}" if shown.startswith(("=", "+", "@")) else shown
        prices = [[float(row[name]) for row in of] for name, of in ((own, rows), (company, plain))]
        np.testing.assert_allclose(*prices, rtol=1e-5)
    for text, other in zip(texts, expected, strict=True):
        kinds = [
            [one.type for block in markdown.parse(each) for one in (block, *(block.children or ()))]
            for each in (text, other)
        ]
        assert not {"html_inline", "html_block", "code_inline", "link_open"} & {*kinds[0]}
        for kind in ("tr_open", "image"):
            assert kinds[0].count(kind) == kinds[1].count(kind)
