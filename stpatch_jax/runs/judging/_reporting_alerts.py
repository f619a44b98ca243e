"""The alerts in a forecast's report: how good the warnings of every rule were."""

from collections.abc import Mapping
from typing import Any

_COLUMNS = {
    "brier": "Brier score",
    "csi": "CSI",
    "detected": "events warned of",
    "false_alarms": "false among warnings",
}


def alert_table(test: Mapping[str, Any]) -> list[str]:
    """Brier score and critical success index of model and naive rules, where there are alerts."""
    if "alerts" not in test:
        return []
    found = test["alerts"]
    share = found["events"] / max(found["targets"], 1)
    lines = [
        f"Alerts, event: {found['event']}, {share:.2%} of {found['targets']} targets. "
        "Probabilities come from each rule's errors on the validation split (`frequency`: from the "
        f"training rows), and from {found['probability']:g} on there is a warning. Of the Brier "
        "score less is better; CSI = hits / (hits + misses + false alarms).",
        "",
        f"| alerts | {' | '.join(_COLUMNS.values())} |",
        "|---|" + "---:|" * len(_COLUMNS),
    ]
    for name, figures in found["rules"].items():
        cells = [figures[column] for column in _COLUMNS]
        told = ["-" if value is None else f"{value:.4g}" for value in cells]
        lines.append(f"| {name} | {' | '.join(told)} |")
    return [*lines, ""]
