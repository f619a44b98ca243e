"""Plots with matplotlib: every function draws on one Axes, with units, and returns it.

`ax` is where to draw, `title` what is drawn, and `unit` that of the values. Colours are those of
Okabe and Ito, colour maps cividis, viridis and PuOr: colour-blind readers can tell them apart.
"""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.plotting.animation import animate
    from stpatch_jax.plotting.attributions import (
        attribution_below_series,
        attribution_over_frame,
        deletion_curves,
        importance_bars,
    )
    from stpatch_jax.plotting.boxes import detection_boxes
    from stpatch_jax.plotting.forecasts import (
        error_by_lead_time,
        forecast_against_truth,
        quantile_bands,
        returns_and_quantiles,
    )
    from stpatch_jax.plotting.maps import map_panel
    from stpatch_jax.plotting.masks import class_handles, class_map, grey_picture
    from stpatch_jax.plotting.style import MODEL, NAIVE, TRUTH, colour_limits, new_figure
    from stpatch_jax.plotting.text import attribution_over_text, text_rows
    from stpatch_jax.plotting.training import agreement, confusion_matrix, learning_curve
    from stpatch_jax.plotting.windows import cover_map, patch_grid

__all__ = [
    "MODEL", "NAIVE", "TRUTH", "agreement", "animate", "attribution_below_series",
    "attribution_over_frame", "attribution_over_text", "class_handles", "class_map",
    "colour_limits", "confusion_matrix", "cover_map", "deletion_curves", "detection_boxes",
    "error_by_lead_time", "forecast_against_truth", "grey_picture", "importance_bars",
    "learning_curve", "map_panel", "new_figure", "patch_grid", "quantile_bands",
    "returns_and_quantiles", "text_rows",
]  # fmt: skip

__getattr__, __dir__ = on_demand(__name__)
