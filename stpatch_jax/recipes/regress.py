"""Regress: which numbers belong to an item? Series, images, volumes, texts, rows of a table."""

import dataclasses

from stpatch_jax.data import MeasuredConfig
from stpatch_jax.recipes.classify import classify
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import RegressConfig


@register("regress", data="your own: .npz, tables, texts")
def regress() -> RunConfig:
    """Tells numbers for the items of your own data: series, images, volumes, texts or table rows.

    `--data.path` names an `.npz` file of arrays, or a table of texts or numbers with columns of
    what is to be told; `--data.labels age weight` names these, `--data.inputs` or `--data.text`
    from what. What is not said is told by the data, and by the report.

    The network is that of `classify`. `--task.loss mae` tells medians, `mse` means; `--model NAME`
    takes another network.
    """
    return dataclasses.replace(classify(), data=MeasuredConfig(), task=RegressConfig())
