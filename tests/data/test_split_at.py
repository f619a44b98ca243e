"""Splits at rows that are told: what lies behind them is as if it were not there."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_fields import small_field

from stpatch_jax.data import FieldConfig, PanelConfig
from stpatch_jax.data.digests import digest_of
from stpatch_jax.errors import InputError

AT = (30, 36, 44)


def _field(rows: int) -> Any:
    return small_field((60, 2), missing=0.1)[:rows]


def _panel(rows: int) -> Any:
    walks = np.random.default_rng(0).normal(0.01, 0.05, (60, 3)).cumsum(axis=0)
    days = pd.date_range("2020-01-01", periods=60)
    return pd.DataFrame(50 * np.exp(walks), index=days, columns=list("ABC"))[:rows]


KINDS: dict[str, tuple[Any, Any]] = {
    "field": (FieldConfig(context=6, horizon=3, split_at=AT, climatology="hour"), _field),
    "panel": (PanelConfig(context=6, horizon=3, split_at=AT), _panel),
}


def _told(data: Any) -> dict[str, Any]:
    digests = {split: data.digest(split) for split in data.splits}
    examples = {split: data.source(split)[0]["context"].tolist() for split in data.splits}
    return {"splits": data.splits, "state": digest_of(data.state()), **digests} | examples


@pytest.mark.parametrize("kind", KINDS)
def test_rows_behind_the_splits_tell_nothing(kind: str) -> None:
    config, rows = KINDS[kind]
    cut, whole, other = rows(44), rows(60), rows(60).copy()
    other[44:] = other[44:] * 1.3
    told = _told(config.of(cut))
    assert told["splits"] == {"train": range(6 + (kind == "panel"), 30)} | {
        "validation": range(30, 36),
        "test": range(36, 44),
    }
    assert _told(config.of(whole)) == _told(config.of(other)) == told
    # As rolling origins take them from data that are open already.
    opened = type(config)(context=6, horizon=3).of(whole)
    rolled = config.rolled(opened, AT)
    assert _told(rolled) == told
    assert rolled.config == config.of(whole).config


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_splits_that_are_not_there_are_refused(kind: str) -> None:
    config, rows = KINDS[kind]
    with pytest.raises(InputError, match=r"split_at must end by the 40 rows of the data, got 44"):
        config.of(rows(40))
    for wrong in (0, 5, 9), (5, 5, 9), (5, 9, 9), (5, 9):
        with pytest.raises(InputError, match="split_at must be three rows that ascend from 1"):
            type(config)(split_at=wrong)
