"""Hidden patches, always the same ones: errors of what is made of them, beside the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from stpatch_jax import plotting
from stpatch_jax.data import Batch
from stpatch_jax.metrics import LeadTimeErrors
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.judging.judge import Judge, Judged, Shows, Tree, judges
from stpatch_jax.runs.judging.question import Asked, Question, on_axes
from stpatch_jax.runs.judging.tables import metric_table
from stpatch_jax.runs.judging.verdict import Losses
from stpatch_jax.tasks import Reconstruct

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METRICS = ("rmse", "mse", "mae")
_UNMASKED = ("a model that is shown its whole input", "one with hidden parts")


@judges(Reconstruct, object)
class ReconstructionJudge(Judge):
    """Judges reconstructions of hidden patches, in scaled units.

    Its rows, by field: `hidden`, how many values are hidden and real, and under `squares` by rule
    the sum of their squared errors.
    """

    task: Reconstruct

    @property
    def inputs(self) -> Sequence[str] | None:
        """All: what is hidden and real is found on the devices."""
        return None

    def outputs(self, model: Any, batch: Mapping[str, Any]) -> Tree:
        """What is made of the field, by rule the error of every hidden value, and what is hidden.

        The mask is drawn for a whole batch: drawn for a part of it, it would be another one.
        """
        rules = {"model": self.task.predict(model, batch), **self.task.baselines(batch)}
        hidden, field = self.task.evaluation_mask(batch), batch["field"]
        judged = jnp.broadcast_to(hidden[..., None], field.shape)
        return {
            "judged": judged & batch["field_mask"] if "field_mask" in batch else judged,
            "hidden": hidden,
            "model": rules["model"],
            "errors": {name: made - field for name, made in rules.items()},
        }

    def sums(self, batch: Batch, answers: Tree) -> Tree:
        """The errors by rule, over all hidden values."""
        judged, none = answers["judged"], np.zeros_like(batch["field"])
        return {
            name: LeadTimeErrors.of(errors, none, mask=judged).pooled()
            for name, errors in answers["errors"].items()
        }

    def rows(self, batch: Batch, answers: Tree) -> Tree:
        """Squared errors of each field, see the class."""
        judged, errors = answers["judged"], answers["errors"]
        axes = tuple(range(1, judged.ndim))
        squares = {
            name: np.square(np.where(judged, of, 0.0)).sum(axes, dtype=np.float64)
            for name, of in errors.items()
        }
        return {"hidden": judged.sum(axes), "squares": squares}

    def losses(self, judged: Judged) -> Losses | None:
        """Squared errors of hidden values."""
        return Losses("MSE in scaled units", judged.rows["squares"], judged.rows["hidden"])

    def shows(self, count: int) -> Mapping[str, Shows]:
        """The first field."""

        def first(batch: Batch, answers: Tree) -> Tree:
            return {"field": batch["field"], "hidden": answers["hidden"], "made": answers["model"]}

        return {"first": Shows([0], first)}

    def validation(self, judged: Judged) -> dict[str, float]:
        """Root of the mean squared error of the hidden values, in scaled units."""
        return {"rmse": float(judged.sums["model"].rmse()[0])}

    def report(self, judged: Judged) -> dict[str, Any]:
        """RMSE, MSE and MAE of the hidden values by rule, in scaled units."""
        scaled = {
            name: {metric: float(getattr(errors, metric)()[0]) for metric in _METRICS}
            for name, errors in judged.sums.items()
        }
        return {"examples": judged.count, "scaled": scaled}

    def markdown(self, report: Mapping[str, Any]) -> list[str]:
        """The model beside the naive rules."""
        test = report["test"]
        window = " x ".join("all" if n is None else str(n) for n in self.task.window)
        return [
            f"Test: the hidden patches, {window} cells each, of {test['examples']} fields, in "
            "scaled units.",
            "",
            *metric_table("", {name: name.upper() for name in _METRICS}, test["scaled"]),
        ]

    def figures(self, judged: Judged, report: Mapping[str, Any]) -> dict[str, Figure]:
        """A slice of the first field, what is shown of it, what is made of that; a series as lines.

        They lie where the data say, in the units of what the model is shown.
        """
        shown = {name: values[0] for name, values in judged.shown["first"].items()}
        axes = self.data.input_axes(judged.split, 0)
        made = np.where(shown["hidden"][..., None], shown["made"], shown["field"])
        seen = np.where(shown["hidden"][..., None], np.nan, shown["field"])
        of = {"field": shown["field"], "shown": seen, "reconstruction": made}
        slices = {name: _slice(on_axes(values, axes)) for name, values in of.items()}
        field = slices["field"]
        if field.ndim == 1:
            figure = plotting.new_figure(1, 1, size=(9, 3.2))
            line = slices["reconstruction"].where(slices["shown"].isnull()).values
            forecasts = {"reconstruction": [(field["time"].values, line)]}
            told: dict[str, Any] = {"ax": figure.axes[0], "unit": axes.unit}
            plotting.forecast_against_truth(field["time"].values, field.values, forecasts, **told)
            figure.legend(loc="outside upper center", ncols=2, frameon=False)
            return {"reconstruction": figure}
        figure = plotting.new_figure(1, len(slices), size=(10.5, 3.4))
        limits = plotting.colour_limits(field.values)
        for ax, (name, values) in zip(list(figure.axes), slices.items(), strict=True):
            last = name == "reconstruction"
            plotting.map_panel(values, ax=ax, title=name, limits=limits, colorbar=last)
        return {"reconstruction": figure}

    def question(self, asked: Asked) -> Question:
        """The mean of what is made of one hidden patch, that which varies most."""
        asked.refuse("target", "lead", what="a hidden patch")
        task, values = self.task, np.asarray(asked.example["field"])
        masked = np.asarray(task.evaluation_mask({"field": values[None]}))[0]
        spec = WindowSpec.of(task.window)
        window = spec.window_shape(masked.shape)
        places = [
            tuple((at * n, at * n + n) for at, n in zip(place, window, strict=True))
            for place in np.ndindex(spec.grid_shape(masked.shape))
        ]
        hidden = [place for place in places if masked[_cells(place)].all()]
        place = max(hidden, key=lambda place: float(values[_cells(place)].std()))
        cells = _cells(place)

        def answer(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
            made = model(inputs["field"], mask=inputs["masked"])[:, *cells]
            return jnp.mean(made, axis=range(1, made.ndim))

        field = asked.field(values)
        where = ", ".join(
            f"{dim} {lo} to {hi - 1}" if hi - lo > 1 else f"{dim} {lo}"
            for dim, (lo, hi) in zip(field.dims, place, strict=False)
        )
        return asked.question(
            field,
            answer,
            name="field",
            fixed={"masked": masked},
            quality=asked.negative_loss,
            judged=[key for key in asked.example if key == "field_mask"],
            unfit={"attention_rollout": _UNMASKED},
            title=f"{asked.name}: mean of the hidden patch at {where}, truly "
            f"{values[cells].mean():.3g}",
            unit="scaled units",
            patches=spec,
            masked=masked,
            place=place,
            loss="mean squared error, scaled units squared",
        )


def _cells(place: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    return tuple(slice(*bounds) for bounds in place)


def _slice(field: xr.DataArray) -> xr.DataArray:
    """Of the first channel the last two axes, in the middle of the others."""
    part = field.isel(channel=0, drop=True)
    return part.isel({dim: part.sizes[dim] // 2 for dim in part.dims[:-2]}, drop=True)
