"""What the journeys share: commands that must succeed, and what they leave."""

import json
import warnings
from pathlib import Path
from typing import Any

from stpatch_jax import cli

STEPS = ("--train.steps", "20", "--train.checkpoint-every", "20", "--train.evaluate-every", "20")
"""Flags of a run that is over in seconds."""


def command(*words: Any) -> None:
    """Runs a command of `stpatch`, which must end well; it may warn of what a file lacks."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        assert cli.main([str(word) for word in words]) == 0


def reported(run: Path) -> dict[str, Any]:
    """The report of a run, of which everything that people look at must be there."""
    assert (run / "report.md").read_text().startswith("# ")
    assert list((run / "plots").glob("*.png"))
    return json.loads((run / "report.json").read_text())
