"""What a command tells people, as Markdown and as a page: one file with its pictures in it."""

import base64
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from stpatch_jax.escapes import printable
from stpatch_jax.files import replaced

# Names are no Markdown: of its rules only those are read that reports are made of.
_RULES = ("heading", "table", "list", "image", "escape")
_VERDICT = re.compile(r"<p>\*\*(.+?)\*\*")
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2327; --paper: #fff; --line: #d5dade; --quiet: #5a646c;
  --band: #f4f6f8; --mark: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8eb; --paper: #14181b; --line: #3a4248;
  --quiet: #a2adb5; --band: #1e2429; --mark: #56b4e9; } }
* { box-sizing: border-box; }
body { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0 0 1rem; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .75rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line);
  font-size: 1.2rem; }
.verdict { padding: .8rem 1rem; border-left: 4px solid var(--mark); background: var(--band); }
.verdict strong { display: block; font-size: 1.15rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem; border-bottom: 1px solid var(--line); text-align: left;
  overflow-wrap: normal; white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; white-space: normal; vertical-align: bottom; }
tbody tr:nth-child(even) { background: var(--band); }
figure { margin: 1.5rem 0; }
img { display: block; max-width: 100%; height: auto; border-radius: 4px; background: #fff; }
figcaption { margin-top: .4rem; color: var(--quiet); font-size: .9rem; }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --line: #bbb;
  --quiet: #444; --band: #fff; }
  body { max-width: none; padding: 0; font-size: 10pt; } .scroll { overflow: visible; }
  th, td { padding: .15rem .4rem; white-space: normal; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; } }
"""
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}</main>
</body>
</html>
"""


def page(text: str, folder: Path) -> str:
    r"""A report in Markdown as HTML that needs no other file, no network and no script.

    Headings, tables, lists, pictures and a verdict `**...**` before all else are what it knows of
    Markdown; all other signs, tags of HTML among them, are shown as they stand. Tables scroll where
    they are wider than the screen.

    Args:
        text: The report; its first heading is the title.
        folder: Where its pictures lie, PNG files by relative names; one that is not there is told
            by its words.

    >>> made = page("# run <b>\n\n**Beats drift.** Of 2.\n\n| a |\n|---:|\n| 1 |", Path())
    >>> print(made[made.index("<main>"):made.index("<div")])
    <main>
    <h1>run &lt;b&gt;</h1>
    <p class="verdict"><strong>Beats drift.</strong> Of 2.</p>
    <BLANKLINE>
    """
    from markdown_it import MarkdownIt
    from markdown_it.common.utils import escapeHtml

    def picture(_: Any, tokens: Any, at: int, *__: Any) -> str:
        words = escapeHtml("".join(part.content for part in tokens[at].children))
        file = folder / unquote(tokens[at].attrs["src"])
        if not file.is_file():
            return words
        coded = base64.b64encode(file.read_bytes()).decode("ascii")
        shown = f'<img src="data:image/png;base64,{coded}" alt="{words}">'
        return f"{shown}\n<figcaption>{words}</figcaption>"

    reader = MarkdownIt("zero").enable(_RULES)
    for name, tags in (
        ("table_open", '<div class="scroll" tabindex="0">\n<table>\n'),
        ("table_close", "</table>\n</div>\n"),
    ):
        reader.add_render_rule(name, lambda *_, tags=tags: tags)
    reader.add_render_rule("image", picture)
    tokens, title = reader.parse(text), ""
    for before, line, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if [of.type for of in line.children or ()] == ["image"]:
            before.tag = after.tag = "figure"
        elif before.type == "heading_open":
            title = title or line.content
    body = reader.renderer.render(tokens, reader.options, {})
    body = _VERDICT.sub(r'<p class="verdict"><strong>\1</strong>', body, count=1)
    return _PAGE.format(title=escapeHtml(printable(title)), style=_STYLE, body=body)


def write_told(file: Path, text: str) -> None:
    """Replaces a Markdown file, `report.md` say, and the page of the same, `report.html`."""
    for path, told in ((file.with_suffix(".html"), page(text, file.parent)), (file, text)):
        with replaced(path) as part:
            part.write_text(told, encoding="utf-8")
