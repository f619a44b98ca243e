"""What a run leaves for people: the report as Markdown, and its plots."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from stpatch_jax import plotting
from stpatch_jax.data.sampling.spacing import gap_text
from stpatch_jax.errors import listed
from stpatch_jax.escapes import markdown
from stpatch_jax.files import replaced
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.judging.judge import Judge, Judged
from stpatch_jax.runs.judging.tables import document, markdown_table
from stpatch_jax.runs.judging.undefined import broken_lines, undefined_lines
from stpatch_jax.runs.judging.verdict import verdict_lines
from stpatch_jax.training.log import read_metrics


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
    if chosen := report.get("chosen"):
        lines += ["", "## What was chosen", "", *(f"- {n}: {why}" for n, why in chosen.items())]
    if notes := report["data"].get("notes"):
        lines += ["", "## What was read", "", *(f"- {note}" for note in notes)]
    text = document([*lines, *_rows(report["data"])])
    plots = [f"![{markdown(name)}](plots/{quote(name)}.png)" for name in report.get("plots", ())]
    return "\n\n".join([text, "## Plots", *plots]) if plots else text


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
