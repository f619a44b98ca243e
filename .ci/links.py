"""Every link of a folder of HTML pages to another of its pages must lead somewhere.

    python .ci/links.py FOLDER

A link to `Class.member` may lead to `Class`: pdoc shows what is inherited without a docstring at
the base alone.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """The anchors of one page, and where its links go."""

    def __init__(self, path: Path):
        super().__init__()
        self.anchors: set[str | None] = set()
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an anchor and a link."""
        found = dict(attrs)
        self.anchors.add(found.get("id"))
        if tag == "a":
            self.links.append(found.get("href") or "")


def broken(folder: Path) -> list[str]:
    """One line for every link that leads nowhere."""
    pages = {path.resolve(): Page(path) for path in sorted(folder.rglob("*.html"))}
    lines = [] if pages else [f"{folder} holds no page"]
    for path, page in pages.items():
        for link in page.links:
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            known = target in pages and (
                not anchor or {anchor, anchor.rpartition(".")[0]} & pages[target].anchors
            )
            if "://" not in link and not known:
                lines.append(f"{path.relative_to(folder.resolve())}: {link} leads nowhere")
    return lines


if __name__ == "__main__":
    found = broken(Path(sys.argv[1]))
    print("\n".join(found))
    sys.exit(1 if found else 0)
