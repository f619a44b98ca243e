"""The command-line arguments that the scripts share."""

import argparse
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.timing import RESULTS


def add_names(parser: argparse.ArgumentParser, known: Collection[str]) -> None:
    """Lets the user choose what to run by name; without a name it is all of it."""

    def name(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(
                f"NAME must be known, got {text!r}; choose from {', '.join(known)}"
            )
        return text

    parser.add_argument(
        "names", nargs="*", type=name, metavar="NAME", help=f"of {', '.join(known)}; else all"
    )


def arguments(
    doc: str,
    cases: Mapping[str, Any],
    *,
    small: Mapping[str, Any] | None = None,
    dtypes: Sequence[str] = (),
    repeats: int | None = None,
    seeds: int | None = None,
    merges: bool = False,
    **flags: Mapping[str, Any],
) -> argparse.Namespace:
    """Reads `[NAME ...] --small --results --note`, and whatever else is asked for.

    Results are committed of whole runs only: with `--small`, some of the names or some of the
    dtypes `results` is None unless the user gave a folder.

    Args:
        doc: What the script says of itself.
        cases: What there is to run, by name; what was chosen comes as the dict `cases`.
        small: The cases of `--small`; by default the same.
        dtypes: Adds `--dtypes`.
        repeats: Adds `--repeats`, by default so many.
        seeds: Adds `--seeds`, by default so many.
        merges: Whether results of some of the names leave those of the others in the file.
        **flags: More flags by name, each with the options of `add_argument`.
    """
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    small = cases if small is None else small
    add_names(parser, [*cases, *(name for name in small if name not in cases)])
    parser.add_argument("--small", action="store_true", help="tiny cases, to try the script")
    parser.add_argument("--results", type=Path, help="folder to write to")
    parser.add_argument("--note", default="", help="a remark for the results file")
    if dtypes:
        parser.add_argument("--dtypes", nargs="+", choices=dtypes, default=list(dtypes))
    if repeats:
        parser.add_argument("--repeats", type=int, default=repeats, help="rounds of timing")
    if seeds:
        parser.add_argument("--seeds", type=int, default=seeds, help="number of seeds")
    for name, options in flags.items():
        parser.add_argument(f"--{name}", **options)
    given = parser.parse_args()
    known = small if given.small else cases
    for name in given.names:
        if name not in known:
            parser.error(f"NAME must be a case of this run, got {name}; choose from {[*known]}")
    given.cases = {name: known[name] for name in given.names or known}
    whole = not given.small and (merges or not given.names)
    if given.results is None and whole and set(getattr(given, "dtypes", dtypes)) == set(dtypes):
        given.results = RESULTS
    if given.results is None and merges:
        parser.error("--results must be a folder beside --small, got none; give one")
    return given
