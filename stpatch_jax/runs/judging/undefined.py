"""What a report cannot give as a number: None in its place, and where and why."""

import math
from collections.abc import Mapping
from typing import Any

from stpatch_jax.runs.judging.judge import Judged

_MOST_TOLD = 8


def without_undefined(report: Mapping[str, Any], judged: Mapping[str, Judged]) -> dict[str, Any]:
    """A report with None for what is not finite, which JSON lacks, and why under `not_finite`.

    There the reason stands by a dotted name: of a part of the report that has no number at all,
    the name of that part. Answers that are not finite stand there first, as `test answers`.

    Args:
        report: JSON values, of which numbers may be NaN or infinite.
        judged: What the parts of the report were made of that tell measurements. In these, None is
            not finite either.

    >>> report = {"test": {"model": {"mae": math.nan, "rmse": math.nan}, "mean": {"mae": 1.0}}}
    >>> without_undefined(report, {})["not_finite"]
    {'test.model': 'not defined for these examples'}
    """
    why = {
        f"{split} answers": f"{of.broken:,} of {of.count:,} are not finite"
        for split, of in judged.items()
        if of.broken
    }
    clean = {}
    for part, values in report.items():
        clean[part], found = _parted(values, part, part in judged)
        either = "made of answers that are not finite, or " if f"{part} answers" in why else ""
        for place, value in found.items():
            beyond = value is not None and math.isinf(value)
            why[place] = either + ("beyond all numbers" if beyond else _UNKNOWN)
    return {**clean, "not_finite": why}


_UNKNOWN = "not defined for these examples"


def _parted(values: Any, where: str, measured: bool) -> tuple[Any, dict[str, float | None]]:
    """Values with None for what is not finite, and that by its place."""
    if not isinstance(values, dict | list):
        broken = isinstance(values, float) and not math.isfinite(values)
        broken |= measured and values is None
        return (None, {where: values}) if broken else (values, {})
    names = list(values if isinstance(values, dict) else range(len(values)))
    parts = [_parted(values[name], f"{where}.{name}", measured) for name in names]
    found = {place: value for _, part in parts for place, value in part.items()}
    if names and found.keys() == {f"{where}.{name}" for name in names}:
        found = {where: next(iter(found.values()))}
    clean = [value for value, _ in parts]
    return dict(zip(names, clean, strict=True)) if isinstance(values, dict) else clean, found


def undefined_lines(report: Mapping[str, Any]) -> list[str]:
    """What a report is told to lack, as Markdown; nothing where it lacks nothing."""
    why = report.get("not_finite", {})
    told = [f"- {place}: {reason}" for place, reason in why.items()][:_MOST_TOLD]
    more = len(why) - len(told)
    last = [f"- {more:,} more stand in report.json under not_finite"] if more else []
    return ["", "## Not a number", "", *told, *last] if told else []


def broken_lines(report: Mapping[str, Any]) -> list[str]:
    """What makes the figures of a report doubtful, as Markdown for its head."""
    lines, step = [], report["step"]
    skipped, rollbacks = (report.get(name, 0) for name in ("skipped", "rollbacks"))
    if skipped:
        back = f", and training went back to a checkpoint {rollbacks} times" if rollbacks else ""
        lines += [
            f"{skipped:,} of {step:,} steps were left out, as loss or gradient was not "
            f"finite{back}."
        ]
    for split in ("validation", "test"):
        if many := report.get("not_finite", {}).get(f"{split} answers"):
            lines += [
                f"Of the answers of the model to the {split} split {many}: figures made of "
                "them mean nothing."
            ]
    return lines
