"""What a report says of the rows, as Markdown."""

from types import SimpleNamespace
from typing import Any

from stpatch_jax.runs.judging.report import summary


def test_gaps_holidays_and_short_sessions_are_told():
    gap = {"after": "2021-01-04T10:30", "before": "2021-01-04T13:30", "missing": 2}
    data = {"gaps": [gap], "holidays": 3, "short_sessions": ["2021-11-26", "2021-12-24"]}
    report = {"recipe": "x", "step": 1, "parameters": 2, "data": data}
    judge: Any = SimpleNamespace(markdown=lambda report: [])
    text = summary(judge, report)
    assert "- gap: 2 rows missing between 2021-01-04T10:30 and 2021-01-04T13:30" in text
    assert "3 working days have no rows, as holidays: these are no gaps." in text
    assert "2 sessions have fewer rows than usual: 2021-11-26, 2021-12-24." in text
    data = {"gaps": [], "holidays": 0, "short_sessions": []}
    assert "rows" not in summary(judge, {**report, "data": data})
