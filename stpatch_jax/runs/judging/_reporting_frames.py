"""The report of a forecast of frames as Markdown, and its plots."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stpatch_jax import plotting
from stpatch_jax.recipes.video.data import NextFrames
from stpatch_jax.recipes.video.judging import FRAME_METRICS, SplitFrames

_MOST_FRAMES = 10


def summary(report: Mapping[str, Any]) -> list[str]:
    """The lines after the title: the model beside persistence, per lead time."""
    test, context, horizon = report["test"], report["context"], report["horizon"]
    errors = {who: test["scaled"][who] for who in ("model", "persistence")}
    heads = [f"{metric.upper()} {who}" for metric in FRAME_METRICS for who in errors]
    columns = [
        [*errors[who][metric]["per_lead"], errors[who][metric]["all"]]
        for metric in FRAME_METRICS
        for who in errors
    ]
    names = [*(str(lead + 1) for lead in range(horizon)), "all"]
    return [
        f"{context} frames in, {horizon} frames out. Test: {test['clips']} clips of digits from "
        f"{report['data']['source']}.",
        "",
        "Values from 0 to 1; squared (MSE) and absolute errors (MAE) summed over a frame, mean "
        "over frames; SSIM at a data range of 1.",
        "",
        f"| lead (frames) | {' | '.join(heads)} |",
        "|---|" + "---:|" * len(heads),
        *(
            f"| {name} | {' | '.join(f'{column[at]:.4g}' for column in columns)} |"
            for at, name in enumerate(names)
        ),
        "",
    ]


def figures(data: NextFrames, split: SplitFrames, report: Mapping[str, Any]) -> dict[str, Figure]:
    """The plots by name: frames of the first clips, and the error by lead time."""
    del data
    test = report["test"]["scaled"]
    figure = plotting.new_figure(1, 2, size=(9, 3.6))
    for ax, metric in zip(figure.axes, ("mse", "ssim"), strict=True):
        errors = {who: test[who][metric]["per_lead"] for who in ("model", "persistence")}
        unit = "per frame" if metric == "mse" else "data range 1"
        plotting.error_by_lead_time(errors, ax=ax, metric=metric.upper(), unit=unit)
    return {"frames": _frames(split.shown), "errors": figure}


def _frames(shown: Mapping[str, np.ndarray]) -> Figure:
    """Three rows a clip: what was seen, what came, what was forecast; every other frame of many."""
    rows = {"seen": "context", "came": "target", "forecast": "model"}
    clips = len(shown["target"])
    steps = {name: _every(shown[key].shape[1]) for name, key in rows.items()}
    columns = max(map(len, steps.values()))
    size = (0.95 * columns + 0.5, 0.95 * len(rows) * clips + 0.3)
    figure = plotting.new_figure(len(rows) * clips, columns, size=size)
    axes = np.array(figure.axes).reshape(clips, len(rows), columns)
    for clip in range(clips):
        for row, (name, key) in enumerate(rows.items()):
            last = shown["context"].shape[1] if name == "seen" else 0
            for column, ax in enumerate(axes[clip, row]):
                ax.set_xticks([])
                ax.set_yticks([])
                if column >= len(steps[name]):
                    ax.set_axis_off()
                    continue
                at = steps[name][column]
                frame = shown[key][clip, at].mean(axis=-1)
                ax.imshow(frame, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                lead = at + 1 - last
                ax.set_title(f"{lead:+d}" if lead else "0", fontsize="x-small", pad=2)
            axes[clip, row, 0].set_ylabel(name, fontsize="small")
    return figure


def _every(frames: int) -> range:
    """Numbers of at most ten frames, the last one among them."""
    step = -(-frames // _MOST_FRAMES)
    return range((frames - 1) % step, frames, step)
