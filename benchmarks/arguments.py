"""Command-line arguments that several scripts share."""

import argparse
from collections.abc import Collection
from pathlib import Path

from benchmarks.timing import RESULTS


def add_names(parser: argparse.ArgumentParser, known: Collection[str]) -> None:
    """Lets the user choose what to run by name; nothing chosen is all of it."""

    def name(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not known; choose from {', '.join(known)}"
            )
        return text

    parser.add_argument(
        "names", nargs="*", type=name, metavar="NAME", help=f"of {', '.join(known)}; else all"
    )


def add_small(parser: argparse.ArgumentParser, *, steps: int) -> None:
    """Adds `--small` and `--results`; see `check_small`."""
    parser.add_argument("--small", action="store_true", help=f"{steps} steps each")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")


def check_small(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Refuses to write small figures over the results."""
    if given.small and given.results == RESULTS:
        parser.error("--small needs --results FOLDER, because its figures are no results")
