"""All benchmark scripts, small, one after the other: do they run here, and what do they say?

    python -m benchmarks [NAME ...]

Small cases show that a script works on this machine; their figures are no results. Each script run
by itself measures in full (`python -m benchmarks.NAME --help`).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.arguments import add_names

Figures = Mapping[str, str]


def _ratios(what: str, *peers: str) -> Callable[[Any], Figures]:
    """The mean ratio of each peer that is installed to ours."""

    def figures(answer: Any) -> Figures:
        ratios = answer["summary"][what]
        return {
            f"{peer} / ours, {what}": f"{ratios[peer]['geometric_mean']:.3g}"
            for peer in peers
            if peer in ratios
        }

    return figures


def _networks(answer: Any) -> Figures:
    return {
        f"{name}, {kind} [ms]": f"{timing['ms']:.3g}"
        for dtype in answer["networks"].values()
        for name, network in dtype.items()
        for kind, timing in network["ms"].items()
    }


def _loop(answer: Any) -> Figures:
    return {
        f"{name}, what the loop adds to a step [%]": f"{100 * network['overhead']:.1f}"
        for name, network in answer["networks"].items()
    }


def _pipeline(answer: Any) -> Figures:
    return {
        "windows/s": f"{answer['windows']['ours']['per_second']:.0f}",
        "what reading adds to a training step [%]": f"{100 * answer['train']['slowdown']:.1f}",
        "digest of data [GB/s of CPU]": f"{answer['digest']['whole']['gigabytes_per_second']:.2f}",
    }


def _tiles(answer: Any) -> Figures:
    return {
        f"a copy's share of the run, {blend} [%]": f"{100 * summary['ours, copy']:.1f}"
        for blend, summary in answer["summary"].items()
    }


def _published(answer: Any) -> Figures:
    return {
        f"{row['recipe']} {row['metric']} (naive)": f"{row['value']:.4g} "
        f"({', '.join(f'{value:.4g}' for value in row['naive'].values())})"
        for row in answer
    }


def _windows(answer: Any) -> Figures:
    return {
        f"{study}, {label}: tokens": str(windows["tokens"])
        for study, answers in answer["studies"].items()
        for label, windows in answers.items()
    }


def _compiled(answer: Any) -> Figures:
    return {
        f"{name} on {chip}: moved / ideal": f"{of['times_ideal']:.3g}"
        for chip, dtypes in answer["chips"].items()
        for name, of in dtypes["float32"]["image"].items()
    }


def _segmentation(answer: Any) -> Figures:
    return {
        f"{case}, {network}: Dice": f"{max(of['dice'] for of in rates.values()):.3f}"
        for case, networks in answer["cases"].items()
        for network, rates in networks.items()
    }


SMALL = ("--small", "--repeats", "2")
SCRIPTS: Mapping[str, tuple[tuple[str, ...], Callable[[Any], Figures]]] = {
    "extract_patches": (
        (*SMALL, "--dtypes", "float32"),
        _ratios("forward float32", "raw lax", "numpy", "torch"),
    ),
    "fold_patches": (
        (*SMALL, "--dtypes", "float32"),
        _ratios("fold float32", "lax gradient", "conv_transpose", "torch"),
    ),
    "compiled": (("image", "--small", "--chips", "cpu", "--dtypes", "float32"), _compiled),
    "backbones": (("neighborhood", *SMALL, "--dtypes", "float32"), _networks),
    "window_study": (("video", "--small", "--seeds", "1"), _windows),
    "train_step": (SMALL, _loop),
    "input_pipeline": (("--gigabytes", "0.05", "--seconds", "2", "--width", "8"), _pipeline),
    "sliding_window": ((*SMALL, "--gigabytes", "0.01"), _tiles),
    "segmentation": (("digits", "--small"), _segmentation),
    "published": (("stocks",), _published),
    "pretraining": (("pretrain-motion", "--small", "--seeds", "1"), _published),
}
"""Every script with what makes it small, and what to show of its results file."""


def measure(name: str) -> tuple[float, Figures]:
    """Runs one script in its own process: seconds, and figures by name.

    Raises:
        subprocess.CalledProcessError: The script failed; its own message stands on stderr.
    """
    arguments, figures = SCRIPTS[name]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--results", folder]
        start = time.perf_counter()
        subprocess.run(
            command, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL, check=True
        )
        seconds = time.perf_counter() - start
        (path,) = Path(folder).glob("*.json")
        return seconds, figures(json.loads(path.read_text(encoding="utf-8")))


def main() -> None:
    """Runs the scripts and prints the table as it grows; exits with 1 where one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_names(parser, SCRIPTS)
    names = parser.parse_args().names or list(SCRIPTS)
    print("| benchmark | seconds | figure | small case |\n|---|---:|---|---:|", flush=True)
    failed = False
    for name in names:
        try:
            seconds, figures = measure(name)
        except subprocess.CalledProcessError as error:
            failed = True
            print(f"| `{name}` | | failed with {error.returncode} | |", flush=True)
            continue
        shown = [name, f"{seconds:.0f}"]
        for figure, value in figures.items():
            first, second = (f"`{shown[0]}`", shown[1]) if shown[0] else ("", "")
            print(f"| {first} | {second} | {figure} | {value} |", flush=True)
            shown = ["", ""]
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
