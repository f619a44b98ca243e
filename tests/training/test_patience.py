"""Early stopping: when it ends a run, what is left, and that no kill moves it."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from small_run import CONFIG, digest, run

from stpatch_jax.training import Checkpoints, TrainConfig
from stpatch_jax.training.patience import Patience

VALUES = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan, math.inf]), min_size=1)


class Saved:
    """The checkpoints of a run: the best is the earliest of the least that are finite."""

    def __init__(self, measured: dict[int, float]):
        self.measured = measured

    def best_step(self, criterion: str) -> int | None:
        sign = {"min": 1, "max": -1}[criterion[:3]]
        found = {s: sign * x for s, x in self.measured.items() if math.isfinite(x)}
        return min(found, key=lambda step: (found[step], step), default=None)

    def metrics(self, step: int) -> dict[str, float]:
        return {"mae": self.measured[step]}


@given(values=VALUES, patience=st.integers(1, 4), order=st.sampled_from(["min", "max"]))
def test_it_ends_after_so_many_validations_that_are_no_better(
    values: list[float], patience: int, order: str
) -> None:
    config: Any = TrainConfig(
        keep_best=f"{order}:mae", patience=patience, evaluate_every=5, checkpoint_every=5
    )
    best, without, measured = -math.inf, 0, {}
    straight: Any = Patience(config, Saved({}))  # pyright: ignore[reportArgumentType]
    for step, value in zip(range(5, 500, 5), values, strict=False):
        signed = value if order == "max" else -value
        better = math.isfinite(value) and signed > best
        best, without = (signed, 0) if better else (best, without + 1)
        measured[step] = value
        straight.see(step, {"mae": value})
        # One that goes on here, or was stopped at a step between, counts the same.
        resumed: Any = Patience(config, Saved(measured))  # pyright: ignore[reportArgumentType]
        assert straight.best == resumed.best
        for one in (straight, resumed):
            assert one.over(step) == (without >= patience)
            assert one.over(step + 4) == (without >= patience)


PATIENT = dataclasses.replace(CONFIG, evaluate_every=2, keep_best="min:loss", patience=2)
SCRIPT = [3.0, 1.0, 2.0, 1.0, 0.0, 0.0]
"""What the validations of steps 2, 4, ... give: the second is the best, and the fourth ends it."""


class Scripted:
    """A validation that gives numbers by the weights it is shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, model: nnx.Module) -> dict[str, float]:
        name = digest(nnx.state(model, nnx.Param))
        if name not in self.shown:
            self.shown.append(name)
        return {"loss": SCRIPT[self.shown.index(name)]}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Any:
    workdir, script = tmp_path_factory.mktemp("ended"), Scripted()
    return workdir, script, run(workdir, PATIENT, validate=script)


def test_the_best_weights_are_left_and_it_stays_ended(ended: Any) -> None:
    workdir, script, result = ended
    assert (result.step, result.best_step) == (8, 4)
    assert (result.ended_early, result.interrupted) == (True, False)
    assert digest(nnx.state(result.model, nnx.Param)) == script.shown[1]
    assert result.validation == {"loss": 1.0}
    # Of all steps to the end, though the weights are those of step 4.
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == 8
    assert int(result.state.skipped[...]) == 1
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        assert checkpoints.steps == [4, 6, 8]

    def no_batch(start: int) -> Any:
        raise AssertionError(f"asked for a batch after step {start}")
        yield

    longer = dataclasses.replace(PATIENT, steps=20)
    again = run(workdir, longer, validate=script, batches=no_batch)
    assert digest(again.state) == digest(result.state)
    assert (again.step, again.ended_early, again.validation) == (8, True, {"loss": 1.0})


class Killed(BaseException):
    """No more is written of the step."""


@pytest.mark.slow
@pytest.mark.parametrize("last", [2, 6, 8])
def test_killed_at_any_validation_it_ends_the_same(tmp_path: Path, ended: Any, last: int) -> None:
    workdir, script, expected = ended

    def killed(step: int, metrics: Any) -> None:
        if step == last:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, PATIENT, validate=script, on_step=killed)
    result = run(tmp_path, PATIENT, validate=script)
    assert (result.step, result.best_step, result.ended_early) == (8, 4, True)
    assert digest(result.state) == digest(expected.state)
    log = "metrics.jsonl"
    assert (tmp_path / log).read_bytes() == (workdir / log).read_bytes()


@pytest.mark.slow
def test_what_is_never_finite_leaves_the_last_weights(tmp_path: Path) -> None:
    result = run(tmp_path, PATIENT, validate=lambda model: {"loss": np.nan})
    assert (result.step, result.best_step, result.ended_early) == (4, None, True)
