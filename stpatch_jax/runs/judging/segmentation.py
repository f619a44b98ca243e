"""Classes of cells: Dice and intersection over union by class and rule, and maps of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from stpatch_jax import plotting
from stpatch_jax.data import Batch, LabelledData
from stpatch_jax.errors import listed, require
from stpatch_jax.inference import sliding_window_apply
from stpatch_jax.metrics import Confusion
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.judging.judge import Judge, Judged, Shows, Tree, judges
from stpatch_jax.runs.judging.question import Asked, Question, log_odds
from stpatch_jax.runs.judging.tables import metric_table
from stpatch_jax.runs.judging.verdict import Losses
from stpatch_jax.tasks import Segment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 4
_MOST_NAMED = 20
_METRICS = {"dice": "Dice", "iou": "IoU", "accuracy": "accuracy"}
_OF_CLASS = {"dice": "Dice", "iou": "IoU", "item_dice": "Dice of an item", "cells": "cells"}


def classes_of(task: Segment, model: Any, field: jax.Array, window: Sequence[int]) -> Tree:
    """The most probable class of every cell of fields of any size, and its probability.

    Fields of another size than the `window` (time, *space) that the model was built for are tiled
    by it; tiles overlap by a quarter, as far as they fit, and their probabilities are blended.

    Returns:
        `label` [batch, time, *space], uint8, or int32 of more than 256 classes, and `probability`
        of the same shape, float32.
    """
    dtype = jnp.uint8 if len(task.class_counts) <= 256 else jnp.int32

    def probabilities(windows: jax.Array) -> jax.Array:
        return task.predict(model, {"field": windows})

    def most_probable(values: jax.Array) -> Tree:
        label = jnp.argmax(values, axis=-1).astype(dtype)
        return {"label": label, "probability": jnp.max(values, axis=-1)}

    cells, window = field.shape[1:-1], tuple(window)
    if cells == window:
        return most_probable(probabilities(field))
    pairs = list(zip(cells, window, strict=True))
    spec = WindowSpec(
        window,
        stride=tuple(extent - extent // 4 for extent in window),
        padding=tuple("FLUSH" if n >= extent else "COVER" for n, extent in pairs),
        padding_mode="edge",
    )
    return sliding_window_apply(probabilities, field, spec, reduce=most_probable)


@judges(Segment, object)
class SegmentationJudge(Judge):
    """Judges classes of cells, on whole items of any size.

    Its sums, by rule: a `Confusion` of all cells that count. Its rows: under `dice` by rule that
    of each class in each item [item, class], NaN where a class is neither there nor said.
    """

    needs = LabelledData
    task: Segment
    data: LabelledData

    def __init__(self, task: Segment, data: Any, mesh: Mesh, *, batch_size: int):
        self.window = data.source("train")[0]["label"].shape
        whole = data.source("test")[0]["label"].shape
        # Of items larger than those to train on, one a device: a batch might not fit.
        size = min(batch_size, mesh.size) if whole != self.window else batch_size
        super().__init__(task, data, mesh, batch_size=size)

    def outputs(self, model: Any, batch: Mapping[str, Any]) -> Tree:
        """The class of each cell, see `classes_of`."""
        return classes_of(self.task, model, batch["field"], self.window)

    def sums(self, batch: Batch, answers: Tree) -> Tree:
        """The counts of true against said classes, by rule."""
        rules = self._said(batch, answers).items()
        return {name: self._counts(said, batch["label"]) for name, said in rules}

    def rows(self, batch: Batch, answers: Tree) -> Tree:
        """The Dice coefficient of each class in each item, by rule."""
        rules = self._said(batch, answers).items()
        pairs = {name: zip(said, batch["label"], strict=True) for name, said in rules}
        each = {name: [self._counts(*pair).f1() for pair in of] for name, of in pairs.items()}
        return {"dice": {name: np.stack(of) for name, of in each.items()}}

    def losses(self, judged: Judged) -> Losses | None:
        """What the mean Dice coefficient of the classes in an item lacks to 1."""
        known = {name: ~np.isnan(of) for name, of in judged.rows["dice"].items()}
        counted = known["model"].any(axis=1)
        missed = {
            name: np.where(
                counted, 1 - np.nansum(of, axis=1) / np.maximum(known[name].sum(1), 1), 0
            )
            for name, of in judged.rows["dice"].items()
        }
        return Losses("the Dice that is missed", missed, counted.astype(np.int64))

    def _said(self, batch: Batch, answers: Tree) -> dict[str, np.ndarray]:
        return {"model": answers["label"], **self.task.rules(batch)}

    def _counts(self, said: np.ndarray, true: np.ndarray) -> Confusion:
        classes, mask = len(self.data.classes), true >= 0
        label, said = np.where(mask, true, 0), said.astype(np.int64)
        return Confusion.of(said, label, classes=classes, mask=mask)

    def shows(self, count: int) -> Mapping[str, Shows]:
        """A picture of each of the first items: where it lies with the most of a rarer class."""
        majority = int(np.argmax(self.task.class_counts))

        def pictures(batch: Batch, answers: Tree) -> Tree:
            places = [_richest(label, majority) for label in batch["label"]]
            shown = {"field": batch["field"][..., 0], "true": batch["label"]}
            shown["said"] = answers["label"].astype(np.int32)
            return {
                name: np.stack([_pictures(x)[at] for x, at in zip(of, places, strict=True)])
                for name, of in shown.items()
            }

        return {"items": Shows(range(min(_SHOWN, count)), pictures)}

    def validation(self, judged: Judged) -> dict[str, float]:
        """What the mean Dice coefficient of the classes lacks to 1, that mean, and that of IoU."""
        found = _metrics(judged.sums["model"])
        return {"missed_dice": 1.0 - found["dice"], "dice": found["dice"], "iou": found["iou"]}

    def report(self, judged: Judged) -> dict[str, Any]:
        """Mean Dice and IoU of the classes and accuracy by rule; of the model class by class."""
        model: Confusion = judged.sums["model"]
        seen = model.counts.sum(axis=1)
        dice = judged.rows["dice"]["model"]
        known, items = ~np.isnan(dice), np.nansum(dice, axis=0)
        per_class = {"dice": model.f1(), "iou": model.iou()}
        return {
            "examples": judged.count,
            **{name: _metrics(counts) for name, counts in judged.sums.items()},
            "classes": {
                label: {
                    **{name: float(values[at]) for name, values in per_class.items()},
                    "item_dice": float(items[at] / n) if (n := known[:, at].sum()) else math.nan,
                    "cells": int(seen[at]),
                }
                for at, label in enumerate(self.data.classes)
            },
            "confusion": np.asarray(model.counts).astype(int).tolist(),
        }

    def markdown(self, report: Mapping[str, Any]) -> list[str]:
        """The model beside the naive rules, then class by class."""
        test, others = report["test"], ("examples", "classes", "confusion")
        rules = {name: of for name, of in test.items() if name not in others}
        return [
            f"Test: {test['examples']} whole items. Dice and IoU are those of all cells together, "
            "their means over the classes; that of an item is the mean over the items in which "
            "the class is, or is said to be.",
            "",
            *metric_table("", _METRICS, rules),
            *metric_table("class", _OF_CLASS, test["classes"]),
        ]

    def figures(self, judged: Judged, report: Mapping[str, Any]) -> dict[str, Figure]:
        """Items beside the classes of their cells, those that are predicted, and the errors."""
        shown, classes = judged.shown["items"], self.data.classes
        count = len(shown["field"])
        figure = plotting.new_figure(count, 4, size=(9.5, 2.4 * count + 0.6))
        for at in range(count):
            picture, truth, said, errors = figure.axes[4 * at : 4 * at + 4]
            true, found = shown["true"][at], shown["said"][at]
            known = true >= 0
            title = "" if at else "input"
            plotting.grey_picture(shown["field"][at], ax=picture, title=title)
            plotting.class_map(true, ax=truth, title="" if at else "truth", classes=classes)
            plotting.class_map(found, ax=said, title="" if at else "prediction", classes=classes)
            wrong = float(np.mean((true != found)[known])) if known.any() else 0.0
            plotting.class_map(
                np.where(known, true, -1),
                ax=errors,
                right=known & (true == found),
                title=f"{100 * wrong:.2g} %" if at else f"errors, by truth: {100 * wrong:.2g} %",
                classes=classes,
            )
        handles = plotting.class_handles(classes)[:_MOST_NAMED]
        figure.legend(handles=handles, loc="outside lower center", ncols=8, frameon=False)
        return {"masks": figure}

    def question(self, asked: Asked) -> Question:
        """The log-odds of a class, in the cells where the model says it."""
        asked.refuse("lead", what="a class")
        classes, values = list(self.data.classes), np.asarray(asked.example["field"])
        require(
            values.shape[:-1] == self.window,
            f"an item must be as large as the crops that the run was trained on, {self.window}, to "
            f"be explained, got {values.shape[:-1]}; train with a larger data.crop",
        )
        said = asked.answer.argmax(-1)
        counts = np.bincount(said.ravel(), minlength=len(classes))
        # The background explains little.
        rest = np.where(np.arange(len(classes)) == np.argmax(self.task.class_counts), 0, counts)
        name = asked.choice(classes, classes[int(rest.argmax())])
        number = classes.index(name)
        require(
            counts[number] > 0,
            f"the class asked about must be said of a cell of {asked.name}, got {name}, which is "
            f"not; ask about {listed(c for c, n in zip(classes, counts, strict=True) if n)}",
        )

        def answer(model: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
            logits = model(inputs["field"])
            odds = log_odds(logits.reshape(-1, logits.shape[-1]), number)
            cells = inputs["cells"].reshape(len(logits), -1)
            return jnp.sum(odds.reshape(cells.shape) * cells, axis=1) / jnp.sum(cells, axis=1)

        return asked.question(
            asked.field(values),
            answer,
            name="field",
            fixed={"cells": (said == number).astype(np.float32)},
            quality=asked.negative_loss,
            judged=("label",),
            title=f"{asked.name}: class {name} in the {counts[number]:,} cells that are said to be",
            unit="nats",
            loss="loss of the task",
        )


def _metrics(counts: Confusion) -> dict[str, float]:
    found = {"dice": counts.macro_f1(), "iou": counts.mean_iou(), "accuracy": counts.accuracy()}
    return {name: float(value) for name, value in found.items()}


def _pictures(cells: np.ndarray) -> np.ndarray:
    """Planes [number, row, column] of the last two axes of cells; a series is one row."""
    rows = cells.shape[-2] if cells.ndim > 1 and cells.shape[-2] > 1 else 1
    return cells.reshape(-1, rows, cells.shape[-1])


def _richest(label: np.ndarray, majority: int) -> int:
    """The number of the plane with the most cells of rarer classes."""
    planes = _pictures(label)
    return int(((planes >= 0) & (planes != majority)).sum(axis=(1, 2)).argmax())
