"""Names out of files for people: no sign of them steers a terminal, a page or a spreadsheet."""

import csv
import io
import unicodedata
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stpatch_jax import plotting
from stpatch_jax.cli import main
from stpatch_jax.data.fields.writers import write_table
from stpatch_jax.errors import InputError, warn
from stpatch_jax.escapes import markdown, printable, table_text
from stpatch_jax.runs.judging.tables import document, markdown_table

HOSTILE = (
    "=cmd|' /C calc'!A0",
    "@SUM(1)",
    "'+1+1",
    "\x1b[31mred",
    "\x9b31m",
    "bidi\u202egnp.exe",
    "\u2066x\u2069",
    "new\r\n# line",
    "\u2028- x",
    "a|b\\|c\\\\|",
    "`code`",
    "<img src=x onerror=alert(1)>",
    "<!-- x",
    "![x](http://example.org/a.png)",
    "$\\frac$ $x",
    "\ud800",
    "\0",
)
names = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(), min_size=1),
    st.text("|\\`<b>![](x)=+-@'\t\n\r\x1b\u202e $", min_size=1),
)


@given(names)
def test_what_is_printed_steers_no_terminal(name):
    text = printable(name)
    assert not any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in text)
    assert not any(
        unicodedata.bidirectional(sign) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI")
        for sign in text
    )
    assert text.encode("utf-8")
    assert printable(text) == text
    assert str(InputError(f"a must b, got {name}; c")) == f"a must b, got {text}; c"


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_other_signs_stay(name):
    assert printable(name) == name


@pytest.mark.parametrize("name", ["می‌خواهم", "Zürich\xa0HB", "👩‍🔬", "東京"])
def test_names_of_every_script_stay(name):
    assert printable(name) == name


@given(names)
def test_a_warning_is_one_line(name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn(f"{name} is odd")
    (told,) = caught
    assert str(told.message) == f"{printable(name)} is odd"
    assert told.filename == __file__


def tokens(text):
    """What a reader of Markdown that nobody here wrote finds in a text: kinds and contents."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    for block in parser.parse(text):
        yield block.type, block.content
        for inline in block.children or ():
            yield inline.type, inline.content


def words(found):
    return "".join(content for kind, content in found if kind in ("text", "text_special"))


@given(names)
def test_a_line_of_a_report_is_text(name):
    found = list(tokens(document([f"x {name} x"])))
    kinds = {kind for kind, _ in found}
    assert not kinds & {"html_inline", "html_block", "code_inline", "image", "link_open", "fence"}
    assert [kind for kind, _ in found].count("inline") == 1


@given(st.lists(st.tuples(names, names), min_size=1, max_size=4))
@example([("a\\|b", "\\"), ("\\\\|", "a`")])
def test_a_table_has_its_rows_and_columns(rows):
    lines = markdown_table(["name", "unit"], rows, texts=2)
    found = [kind for kind, _ in tokens(document(["before", "", *lines, "", "after"]))]
    assert found.count("tr_open") == len(rows) + 1
    assert found.count("td_open") == 2 * len(rows)
    assert not {"html_inline", "html_block", "code_inline", "image", "link_open"} & {*found}


@pytest.mark.parametrize("name", ["a|b", "a\\|b", "`x`", "<b>bold</b>", "[x](y)", "1 < 2"])
def test_markdown_shows_a_name_as_it_is(name):
    shown = [words([one]) for one in tokens(document(markdown_table(["h"], [[name]])))]
    assert name in "".join(shown)


texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1)


@given(
    st.lists(
        st.tuples(names, st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=5
    )
)
def test_a_table_gives_back_its_numbers_and_no_formula(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "a.csv"
    named, values = zip(*rows, strict=True)
    write_table(path, pd.DataFrame({"name": pd.Series(named, dtype=object), "=value": values}))
    with path.open(encoding="utf-8", newline="") as file:
        head, *lines = csv.reader(file)
    assert head == ["name", "'=value"]
    assert [float(value) for _, value in lines] == list(values)
    for (text, _), name in zip(lines, named, strict=True):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert text[0] not in "=+-@\t" or float(text) == float(name)


@given(st.one_of(texts, st.text("'=+-@ 1", min_size=1)))
def test_a_quote_that_was_added_can_be_taken_away(name):
    text = table_text(name)
    back = text[1:] if text.startswith("'") and text.lstrip("'")[:1] in tuple("=+-@\t") else text
    if text.lstrip("'")[:1] in tuple("=+-@"):
        assert back == printable(name, keep="\n\t")


def test_a_table_has_texts_of_every_type(tmp_path):
    table = pd.DataFrame(
        {
            "a": pd.Series(["=1", None], dtype="string"),
            "b": pd.Categorical(["@x", "y"]),
            "c": [-1.5, 2.0],
            "d": ["-1", "+1.5e3"],
            "e": pd.to_datetime(["2020-01-01", "2020-01-02"]),
            7: ["x", "-y"],
        }
    )
    write_table(tmp_path / "a.csv", table)
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines() == [
        "a,b,c,d,e,7",
        "'=1,'@x,-1.5,-1,2020-01-01,x",
        ",y,2.0,+1.5e3,2020-01-02,'-y",
    ]
    assert table.a[0] == "=1"


def test_plots_show_names_as_they_are():
    figure = plotting.new_figure(1, 2, size=(30, 20))
    count = np.eye(len(HOSTILE), dtype=int).tolist()
    plotting.confusion_matrix(count, HOSTILE, ax=figure.axes[0])
    bars = list(range(len(HOSTILE)))
    plotting.importance_bars(bars, HOSTILE, ax=figure.axes[1], title="".join(HOSTILE), unit="$m")
    for name in HOSTILE:
        figure.axes[1].plot([0, 1], label=name)
    figure.axes[1].legend()
    figure.savefig(io.BytesIO(), format="png", dpi=20)


def test_the_command_line_prints_no_control_characters(tmp_path, capsys):
    file = tmp_path / "a\x1b[31m\u202e.csv"
    rows = [f"2024-01-{day:02d},1,2" for day in range(1, 11)]
    head = "date,\x1b[31mred,\u202enur"
    file.write_text("\n".join([head, *rows]), encoding="utf-8")
    assert main(["patches", str(file), "--window", "2", "1"]) == 0
    assert main(["patches", str(file), "--window", "200", "1"]) == 2
    told = capsys.readouterr()
    for text in told:
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert r"\x1b[31m" in told.out


def test_a_terminal_that_lacks_a_sign_gets_its_number(tmp_path, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", out)
    file = tmp_path / "Zürich.csv"
    file.write_text("date,x\n2024-01-01,1\n2024-01-02,2\n", encoding="utf-8")
    assert main(["patches", str(file), "--window", "1", "1"]) == 0
    out.flush()
    assert rb"Z\xfcrich.csv" in out.buffer.getvalue()
    assert markdown("ü") == "ü"
