"""What a run leaves for people: the report as Markdown, and its plots."""

from collections.abc import Mapping
from typing import Any

from stpatch_jax import plotting
from stpatch_jax.data.sampling.spacing import gap_text
from stpatch_jax.errors import listed
from stpatch_jax.files import replaced
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.judging.judge import Judge, Judged
from stpatch_jax.runs.judging.tables import document, markdown_table, pictures
from stpatch_jax.runs.judging.undefined import broken_lines, undefined_lines
from stpatch_jax.runs.judging.verdict import verdict_lines
from stpatch_jax.training.log import read_metrics

_SHOWS = {
    "agreement": "Predicted against true numbers of the test split",
    "boxes": "Objects that were found, and those that are there (dashed)",
    "calibration": "Forecast and real purchases by how often customers came before",
    "confusion": "Examples of the test split by their true and their predicted class",
    "errors": "Error of the model and of the rules by lead time",
    "forecasts": "The end of the test split, and what was forecast",
    "frames": "Frames that were seen, those that came, and those that were forecast",
    "learning": "Training loss and validation error by step",
    "maps": "What came, what was forecast, and the difference",
    "masks": "Items of the test split, the class of each cell, and where the prediction is wrong",
    "quantile": "Returns of a company, and the quantiles that were forecast",
    "reconstruction": "A field, what is shown of it, and what was made of that",
}
"""What the pictures of the judges show, by name; a picture of another judge is told by its name."""


def summary(judge: Judge, report: Mapping[str, Any]) -> str:
    """The report as Markdown: the model beside the naive rules, then the plots that were drawn."""
    head = f"# {report['recipe'] or report['task']}"
    size = f"Step {report['step']}, {report['parameters']:,} parameters{_cost(report)}."
    lines = [
        head,
        "",
        *verdict_lines(report),
        size,
        *_early(report),
        *broken_lines(report),
        *judge.markdown(report),
    ]
    lines += undefined_lines(report)
    if plots := report.get("plots"):
        lines += ["", "## Plots", ""]
        lines += pictures({f"plots/{name}.png": _SHOWS.get(name, str(name)) for name in plots})
    if chosen := report.get("chosen"):
        lines += ["", "## What was chosen", "", *(f"- {n}: {why}" for n, why in chosen.items())]
    if notes := report["data"].get("notes"):
        lines += ["", "## What was read", "", *(f"- {note}" for note in notes)]
    return document([*lines, *_rows(report["data"])])


def _early(report: Mapping[str, Any]) -> list[str]:
    if not (early := report.get("ended_early")):
        return []
    best, count = early["best"], early["patience"]
    many = "validation" if count == 1 else f"{count} validations"
    why = f"{early['keep_best']} was never finite in the first {many}"
    if best is not None:
        why = f"{early['keep_best']} was no better in the {many} since"
    kept = "" if best is None else f", with the weights of step {best}"
    return ["", f"Training ended early{kept}: {why}."]


def _rows(data: Mapping[str, Any]) -> list[str]:
    lines = []
    splits = data.get("splits", {})
    if splits and all("first_target" in span for span in splits.values()):
        step = f", every {data['step']}" if data.get("step") else ""
        # Customers are examples that are no windows.
        counts = (f"{span.get('windows', span.get('examples')):,}" for span in splits.values())
        ends = ((of["first_target"], of["last_target"]) for of in splits.values())
        rows = [(name, *at, count) for name, at, count in zip(splits, ends, counts, strict=True)]
        heads = ["split", "first target", "last target", "examples"]
        lines += ["", f"## Rows{step}", "", *markdown_table(heads, rows, texts=3)]
    if gaps := data.get("gaps"):
        lines += ["", f"{len(gaps)} gap{'s' * (len(gaps) > 1)}, which no window crosses:", ""]
        lines += [f"- gap: {gap_text(gap)}" for gap in gaps]
    if holidays := data.get("holidays"):
        lines += ["", f"{holidays:,} working days have no rows, as holidays: these are no gaps."]
    if short := data.get("short_sessions"):
        lines += ["", f"{len(short):,} sessions have fewer rows than usual: {listed(short)}."]
    return lines


def _cost(report: Mapping[str, Any]) -> str:
    patches, flops = (report.get(name) for name in ("patches", "flops_per_example"))
    cut = f"; an example is {patches:,} patch{'es' * (patches != 1)}" if patches else ""
    return f"{cut}; its gradient takes {flops:.3g} FLOP" if flops else cut


def draw_plots(
    directory: RunDirectory, judge: Judge, judged: Judged, report: Mapping[str, Any]
) -> list[str]:
    """Writes a judge's pictures of the test split and the learning curve; returns their names."""
    directory.plots.mkdir(exist_ok=True)
    metrics = read_metrics(directory.metrics_file)
    figures = judge.figures(judged, report)
    figures["learning"] = plotting.new_figure(1, 1, size=(7, 4))
    decides = next(iter(report["validation"]))
    ax = figures["learning"].axes[0]
    plotting.learning_curve(metrics, ax=ax, validation=f"validation/{decides}")
    for name, figure in figures.items():
        with replaced(directory.plots / f"{name}.png") as part:
            figure.savefig(part, dpi=120, format="png")
    return sorted(figures)
