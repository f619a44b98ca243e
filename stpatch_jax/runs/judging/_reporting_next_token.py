"""The report of a text model as Markdown: bits per character, and lines that it wrote."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from stpatch_jax.data import Characters
from stpatch_jax.runs.judging.registry import SplitTokens


def summary(report: Mapping[str, Any]) -> list[str]:
    """The lines after the title: the model beside the naive rule, then what it wrote."""
    test = report["test"]
    rules = {
        name: found
        for name, found in test.items()
        if isinstance(found, Mapping) and "bits_per_char" in found
    }
    return [
        f"Test: {test['characters']:,} characters; of bits per character less is better.",
        "",
        "| | bits per character | perplexity |",
        "|---|---:|---:|",
        *(
            f"| {name} | {of['bits_per_char']:.4g} | {of['perplexity']:.4g} |"
            for name, of in rules.items()
        ),
        "",
        "Lines that the model wrote:",
        "",
        *(
            f"- temperature {temperature}: {line}"
            for temperature, lines in test["lines"].items()
            for line in lines
        ),
        "",
    ]


def figures(
    data: Characters, predictions: SplitTokens, report: Mapping[str, Any]
) -> dict[str, Figure]:
    """No plots of its own: the learning curve, which every report has, is all there is to see."""
    del data, predictions, report
    return {}
