"""Going back to a checkpoint, with everything on that a checkpoint must hold."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from jax.core import Tracer
from small_run import CONFIG, SmallModel, digest, run, sigterm_after, squared_error, validate

from stpatch_jax.errors import InputError
from stpatch_jax.training import (
    Checkpoints,
    FitResult,
    create_state,
    make_mesh,
    make_train_step,
    shard_local_batch,
)

ALL = dataclasses.replace(
    CONFIG,
    batch_size=16,
    accumulate=2,
    ema=0.9,
    on_nonfinite="rollback",
    checkpoint_every=3,
    evaluate_every=3,
    keep_checkpoints=1,
    keep_best="min:loss",
)


def spoiled_at(*spoiled: int) -> Callable[[int], Iterator[Any]]:
    def batches(start: int) -> Iterator[Any]:
        step = start
        while True:
            step += 1
            x = np.random.default_rng([9, step]).normal(size=(16, 4)).astype(np.float32)
            y = np.sin(x).sum(1, keepdims=True) * (np.nan if step in spoiled else 1)
            yield {"x": x, "y": y.astype(np.float32)}

    return batches


def lines(workdir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


TRACES: list[tuple[int, ...]] = []
VALIDATED: list[str] = []


class Counted(SmallModel):
    """Counts how often the forward pass is traced."""

    def __call__(self, x: jax.Array) -> jax.Array:
        if isinstance(x, Tracer):
            TRACES.append(x.shape)
        return super().__call__(x)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FitResult]:
    workdir = tmp_path_factory.mktemp("straight")

    def recorded(model: nnx.Module) -> dict[str, float]:
        VALIDATED.append(digest(nnx.state(model, nnx.Param)))
        return validate(model)

    batches = spoiled_at(5)
    return workdir, run(workdir, ALL, batches=batches, create_model=Counted, validate=recorded)


def test_the_state_of_the_checkpoint_goes_on_after_the_spoiled_batch(
    straight: tuple[Path, FitResult],
) -> None:
    mesh = make_mesh()
    state = create_state(SmallModel, ALL, mesh)
    step = make_train_step(squared_error, mesh, accumulate=2, ema=0.9)
    for number in (1, 2, 3, 6, 7, 8, 9, 10, 11, 12):
        step(state, shard_local_batch(next(spoiled_at()(number - 1)), mesh))
    workdir, result = straight
    # For its shapes and in the loop over parts; the rollback did not trace it anew.
    assert TRACES.count((8, 4)) == 2
    for part in ("model", "optimizer", "average"):
        assert digest(getattr(result.state, part)) == digest(getattr(state, part)), part
    records = lines(workdir)
    assert [r["step"] for r in records] == list(range(1, 13))
    assert [r["skipped"] for r in records] == [0] * 4 + [2] * 8
    assert [r["rollbacks"] for r in records] == [0] * 4 + [1] * 8
    assert [r["step"] for r in records if r["loss"] is None] == [5]
    assert (int(result.state.skipped[...]), int(result.state.rollbacks[...])) == (2, 1)


@pytest.mark.parametrize(
    "last", [2, pytest.param(4, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.slow)]
)
def test_a_stopped_run_rolls_back_to_the_same_place(
    tmp_path: Path,
    straight: tuple[Path, FitResult],
    last: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sigterm_after(last, monkeypatch)
    first = run(tmp_path, ALL, batches=spoiled_at(5))
    assert first.interrupted
    assert last < first.step <= last + 2
    second = run(tmp_path, ALL, batches=spoiled_at(5))
    workdir, expected = straight
    assert digest(second.state) == digest(expected.state)
    assert digest(second.model) == digest(expected.model)
    assert lines(tmp_path) == lines(workdir)
    assert second.best_step == expected.best_step


def test_the_best_checkpoint_stays(straight: tuple[Path, FitResult]) -> None:
    workdir, result = straight
    measured = {r["step"]: r["validation/loss"] for r in lines(workdir) if "validation/loss" in r}
    assert list(measured) == [3, 6, 9, 12]
    best = min(measured, key=lambda step: measured[step])
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        assert set(checkpoints.steps) == {best, 12}
        assert result.best_step == checkpoints.best_step("min:loss") == best
        assert checkpoints.best_step("max:loss") == max({best, 12}, key=lambda s: measured[s])
        assert checkpoints.best_step("min:other") is None


def test_the_fourth_time_ends_the_run(tmp_path: Path) -> None:
    spoiled = spoiled_at(1, 2, 5, 7, 8)
    for _ in range(2):  # Resumed, it ends in the same place.
        with pytest.raises(
            InputError, match=r"got a loss of nan .* at step 7; .*rolled back 3 times"
        ):
            run(tmp_path, ALL, batches=spoiled)
        records = lines(tmp_path)
        assert [r["skipped"] for r in records] == [1, 2, 2, 2, 4, 4, 5]
        assert [r["rollbacks"] for r in records] == [1, 2, 2, 2, 3, 3, 3]


@pytest.mark.slow
def test_before_the_first_checkpoint_it_begins_anew(tmp_path: Path) -> None:
    config, mesh = dataclasses.replace(ALL, steps=3), make_mesh()
    result = run(tmp_path, config, batches=spoiled_at(2), validate=lambda model: {"loss": 1.0})
    fresh = create_state(SmallModel, config, mesh)
    step = make_train_step(squared_error, mesh, accumulate=2, ema=0.9)
    step(fresh, shard_local_batch(next(spoiled_at()(2)), mesh))
    for part in ("model", "optimizer", "average"):
        assert digest(getattr(result.state, part)) == digest(getattr(fresh, part))


def test_validation_and_result_use_the_averages(straight: tuple[Path, FitResult]) -> None:
    _, result = straight
    assert VALIDATED[-1] == digest(nnx.state(result.model, nnx.Param))
    assert VALIDATED[-1] != digest(nnx.state(result.state.model, nnx.Param))


def test_the_metric_to_keep_by_must_be_there(tmp_path: Path) -> None:
    config = dataclasses.replace(ALL, keep_best="max:skill", steps=1)
    with pytest.raises(InputError, match="one of mae, got 'max:skill'"):
        run(tmp_path / "a", config, batches=spoiled_at(), validate=lambda model: {"mae": 1.0})
    with pytest.raises(InputError, match="keep_best must come with a validation"):
        run(tmp_path / "b", config, batches=spoiled_at(), validate=None)
    assert not (tmp_path / "b").exists()
