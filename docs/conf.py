"""How the pages are built: `sphinx-build -W --keep-going docs FOLDER`, without a network."""

import os
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils import unescape
from sphinx import addnodes

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # this package, not an installed one
os.environ["PYTHONPATH"] = str(HERE.parent)  # nor in the notebooks
import written  # noqa: E402

import stpatch_jax  # noqa: E402

project = "stpatch_jax"
author = "The stpatch_jax authors"
copyright = author
version = release = stpatch_jax.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_design"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

html_theme = "sphinx_book_theme"
html_title = "stpatch_jax"
html_copy_source = False
html_show_copyright = False
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "navbar_persistent": [],  # one search is enough
}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# The notebooks are executed anew: a page shows what this version of the package says.
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"  # bars of progress

default_role = "public"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True

NAMES = written.pages(HERE)


def public(_role: str, _raw: str, text: str, *_: Any) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """What stands between backticks in a docstring: code, and a link where it is a public name."""
    text = unescape(text)
    literal = nodes.literal(text, text)
    full = NAMES.get(text.partition("(")[0])
    if full is None:
        return [literal], []
    return [addnodes.pending_xref("", literal, refdomain="py", reftype="obj", reftarget=full)], []


def from_markdown(_app: Any, _what: str, _name: str, _of: Any, _options: Any, lines: list) -> None:
    """Docstrings are Markdown where it is plainer: stars are stars, and tables have bars."""
    text = re.sub(r"(?:^ *\|.*\n?){3,}", _table, "\n".join(lines), flags=re.MULTILINE)
    code = re.compile(r"(``.*?``|`[^`]*`|^ *(?:>>>|\.\.\.).*$)", re.MULTILINE | re.DOTALL)
    parts = code.split(text)
    parts[::2] = [re.sub(r"(?<!^)(?<!\s\s)\*(?=\w)", r"\*", part) for part in parts[::2]]
    lines[:] = "".join(parts).split("\n")


def _table(found: re.Match[str]) -> str:
    head, _, *rows = (line.strip().strip("|") for line in found[0].splitlines())
    lines = ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        first, *others = (cell.strip() for cell in row.split("|"))
        lines += [f"   * - {first}", *(f"     - {cell}" for cell in others)]
    indent = found[0][: -len(found[0].lstrip(" "))]
    return "\n".join(indent + line for line in [*lines, "", ""])


def setup(app: Any) -> None:
    """Joins the two to Sphinx."""
    app.add_role("public", public)
    app.connect("autodoc-process-docstring", from_markdown, priority=400)  # before napoleon's
