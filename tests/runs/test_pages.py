"""Reports as a page: one file that shows what the Markdown says, and nothing that a name asks."""

import base64
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from stpatch_jax.escapes import printable
from stpatch_jax.runs.judging.tables import document, markdown_table, pictures
from stpatch_jax.runs.pages import page

NAMES = st.one_of(
    st.sampled_from(["<script>alert(1)</script>", "</style><b>", "![x](http://a.b/c.png)", "&lt;"]),
    st.text(st.characters(), min_size=1),
    st.text("|\\`<b>![](x)&#*_=-\"'\t\n\x1b\u202e $", min_size=1),
)
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "h1", "p", "strong", "ul", "li"),
    *("div", "table", "thead", "tbody", "tr", "th", "td", "figure", "img", "figcaption"),
}


class Read(HTMLParser):
    """What a reader of HTML that nobody here wrote finds in a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attrs, self.texts = list[str](), list[tuple[str, str | None]](), [""]
        self.feed(text)
        self.close()
        self.words = [" ".join(part.split()) for part in self.texts]

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attrs += attrs
        self.texts.append("")

    def handle_endtag(self, tag):
        self.texts.append("")

    def handle_data(self, data):
        self.texts[-1] += data


@given(st.lists(NAMES, min_size=1, max_size=3))
@settings(max_examples=10)
def test_names_are_shown_as_they_stand_and_are_no_part_of_the_page(tmp_path_factory, names):
    lines = ["# run", "", "**Beats x.** Of 2.", "", *markdown_table(["a"], [[n] for n in names])]
    lines += ["", *(f"- x {name} x" for name in names), "", *pictures({"a.png": names[0]})]
    found = Read(page(document(lines), tmp_path_factory.getbasetemp()))
    assert {*found.tags} <= TAGS
    assert {*dict(found.attrs)} <= {
        *("lang", "charset", "name", "content", "http-equiv", "class", "tabindex", "style")
    }
    shown = [" ".join(printable(name).split()) for name in names]
    cells = [word for word in found.words if word and word in shown]
    assert [*dict.fromkeys(cells)] == [*dict.fromkeys(name for name in shown if name)]
    assert {" ".join(f"x {name} x".split()) for name in shown} <= {*found.words}
    assert "Beats x." in found.words


def test_pictures_are_part_of_the_page_with_what_they_show(tmp_path):
    (tmp_path / "plots").mkdir()
    for name in ("a b", "c"):
        (tmp_path / f"plots/{name}.png").write_bytes(name.encode() * 100)
    shown = {"plots/a b.png": "the <b> error", "plots/c.png": "c", "plots/lost.png": "no picture"}
    text = page(document(["# run & x", "", *pictures(shown)]), tmp_path)
    found = Read(text)
    sources = [value for name, value in found.attrs if name == "src"]
    head = "data:image/png;base64,"
    assert [base64.b64decode(str(of).removeprefix(head)) for of in sources] == [
        b"a b" * 100, b"c" * 100
    ]  # fmt: skip
    assert [value for name, value in found.attrs if name == "alt"] == ["the <b> error", "c"]
    assert found.tags.count("figure") == 3
    assert {"run & x", "no picture"} <= {*found.words}
    # No network, no script: a browser is told to refuse both.
    assert (
        "content",
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    ) in found.attrs
    assert "http://" not in text
    assert "https://" not in text
