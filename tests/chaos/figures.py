"""Writes what `pytest -m slow --many tests/chaos -n 0` counted to docs/development.md.

`python tests/chaos/figures.py`, from the root of the project; a table between two comments.
"""

import datetime
import json
import platform
import re
from importlib.metadata import version
from pathlib import Path

COUNTS = Path(".pytest_cache/v/chaos")
DOCS = Path("docs/development.md")
BEGIN, END = "<!-- chaos -->", "<!-- /chaos -->"


def table(counts: dict[tuple[str, str], dict[str, int]]) -> list[str]:
    """One row a command: tries, survived and lost, of kills and of disks that refuse."""
    lines = ["| command | kills | survived | lost | disk refuses | survived | lost |"]
    lines += ["|:--|--:|--:|--:|--:|--:|--:|"]
    rows = {
        name: [counts.get((kind, name), {"tries": 0, "lost": 0}) for kind in ("killed", "refused")]
        for name in sorted({name for _, name in counts})
    }
    sums = [
        {count: sum(row[at][count] for row in rows.values()) for count in ("tries", "lost")}
        for at in range(2)
    ]
    for name, row in [*rows.items(), ("all", sums)]:
        cells = (f"{of['tries']} | {of['tries'] - of['lost']} | {of['lost']}" for of in row)
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def main() -> None:
    counts = {}
    for file in COUNTS.iterdir():
        kind, _, name = file.name.partition(" ")
        counts[kind, name] = json.loads(file.read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "orbax-checkpoint", "zarr"))
    today = datetime.datetime.now(datetime.UTC).date()
    told = f"Counted on {today} with Python {platform.python_version()}, {versions}:"
    text = "\n".join([BEGIN, told, "", *table(counts), END])
    docs = DOCS.read_text(encoding="utf-8")
    docs = re.sub(f"{BEGIN}.*{END}", lambda _: text, docs, flags=re.DOTALL)
    DOCS.write_text(docs, encoding="utf-8")


if __name__ == "__main__":
    main()
