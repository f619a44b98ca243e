import dataclasses
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx
from small_run import CONFIG, NAN_STEP, SmallModel, arrays, digest, run, sigterm_after, validate

from stpatch_jax.errors import InputError
from stpatch_jax.training import Checkpoints, FitResult, make_mesh, restore_state
from stpatch_jax.training.log import MetricsLog
from stpatch_jax.training.loop import most_steps_lost


class Told(list[tuple[str, int, dict[str, Any]]]):
    """What callbacks are told."""

    def on_step(self, step: int, metrics: dict[str, Any]) -> None:
        self.append(("step", step, metrics))

    def on_evaluate(self, step: int, metrics: dict[str, Any]) -> None:
        self.append(("evaluate", step, metrics))


TOLD = Told()
"""Of the run that nothing interrupted."""


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FitResult]:
    """The run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("straight")
    TOLD.clear()
    return workdir, run(workdir, on_step=TOLD.on_step, on_evaluate=TOLD.on_evaluate)


def lines(workdir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def contents(workdir: Path) -> dict[str, bytes]:
    files = [path for path in workdir.rglob("*") if path.is_file()]
    return {str(path.relative_to(workdir)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "last",
    [pytest.param(1, marks=pytest.mark.slow), NAN_STEP, pytest.param(7, marks=pytest.mark.slow)],
)
def test_sigterm_saves_and_the_resumed_run_is_bit_equal(
    tmp_path: Path,
    straight: tuple[Path, FitResult],
    last: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    sigterm_after(last, monkeypatch)
    first = run(tmp_path)
    assert first.interrupted
    # A step is logged while the next one runs, and that one is then finished.
    assert last < first.step <= last + 2
    assert signal.getsignal(signal.SIGTERM) is before
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step == first.step
    second = run(tmp_path)
    workdir, expected = straight
    assert (second.interrupted, second.step) == (False, CONFIG.steps)
    assert digest(second.state) == digest(expected.state)
    assert contents(tmp_path)["metrics.jsonl"] == contents(workdir)["metrics.jsonl"]


@pytest.mark.slow
def test_steps_may_grow_bit_equal(tmp_path: Path) -> None:
    constant = dataclasses.replace(CONFIG.optimizer, schedule="constant")
    config = dataclasses.replace(CONFIG, optimizer=constant)
    run(tmp_path / "a", dataclasses.replace(config, steps=7), validate=None)
    grown = run(tmp_path / "a", config, validate=None)
    expected = run(tmp_path / "b", config, validate=None)
    assert digest(grown.state) == digest(expected.state)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_metrics_name_step_loss_and_validation(straight: tuple[Path, FitResult]) -> None:
    workdir, result = straight
    records = lines(workdir)
    assert [record["step"] for record in records] == list(range(1, 13))
    assert list(records[0]) == ["step", "loss", "grad_norm", "skipped", "rollbacks", "absolute"]
    assert [r["step"] for r in records if "validation/loss" in r] == [4, 8, 12]
    assert [r["step"] for r in records if r["loss"] is None] == [NAN_STEP]
    assert [r["skipped"] for r in records] == [0] * (NAN_STEP - 1) + [1] * (13 - NAN_STEP)
    assert result.state.skipped[...] == 1
    assert all(np.isfinite(array).all() for array in arrays(result.state))


def test_the_result_holds_the_validation_of_its_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[float] = []

    def counted(model: nnx.Module) -> dict[str, float]:
        measured.append(validate(model)["loss"])
        return {"loss": measured[-1], "nothing": float("nan")}

    config = dataclasses.replace(CONFIG, steps=6, evaluate_every=4)
    sigterm_after(1, monkeypatch)
    stopped = run(tmp_path, config, validate=counted)
    assert (stopped.interrupted, stopped.validation) == (True, None)
    result = run(tmp_path, config, validate=counted)
    records = {r["step"]: r for r in lines(tmp_path) if "validation/loss" in r}
    assert [r["validation/loss"] for r in records.values()] == measured
    assert list(records) == [4, 6]
    for again in (result, run(tmp_path, config, validate=counted)):
        assert again.validation is not None
        assert again.validation["loss"] == measured[-1]
        assert np.isnan(again.validation["nothing"])
    assert len(measured) == 2


def test_checkpoints_keep_the_newest_with_extras(straight: tuple[Path, FitResult]) -> None:
    workdir, result = straight
    names = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert names == [10, 12]
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        restored = restore_state(SmallModel, CONFIG, checkpoints, make_mesh())
    assert restored is not None
    state, step, extras = restored
    assert (step, extras) == (12, {"name": "small"})
    assert digest(state) == digest(result.state)


def test_steps_go_on_beside_a_save_for_a_quarter_of_the_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    for owner, name in ((MetricsLog, "write"), (Checkpoints, "save"), (Checkpoints, "wait")):
        method = getattr(owner, name)

        def told(self: Any, *args: Any, name: str = name, method: Any = method, **options: Any):
            done = method(self, *args, **options)
            step = args[0]["step"] if name == "write" else args[0] if args else ""
            events.append(f"{name} {step}".strip())
            return done

        monkeypatch.setattr(owner, name, told)
    config = dataclasses.replace(CONFIG, steps=13, checkpoint_every=6, evaluate_every=13)
    run(tmp_path, config, validate=None)
    # Step 9 may not begin before. A step is logged once the next one has begun, so 7 is and 8 not.
    assert events[5:10] == ["write 6", "save 6", "write 7", "wait", "write 8"]
    # The second save is waited for before the third, and that at the end.
    assert events[-4:] == ["save 12", "write 13", "save 13", "wait"]
    assert events.count("wait") == 2
    assert [most_steps_lost(every) for every in (1, 2, 6, 100)] == [2, 3, 8, 125]


def test_machine_figures(straight: tuple[Path, FitResult]) -> None:
    machine = straight[1].machine
    assert (machine["platform"], machine["devices"], machine["processes"]) == ("cpu", 8, 1)
    assert all(machine[f"{name}_seconds"] > 0 for name in ("compile", "validation", "save"))
    rate = machine["steps_per_second"]
    assert rate > 0
    assert machine["samples_per_second"] == pytest.approx(8 * rate)
    # Two layers, 8 examples: forwards, for each weight backwards, and once for the hidden layer.
    flops = 2 * 8 * (4 * 16 * 2 + 16 * 3)
    assert machine["flops_per_second"] == pytest.approx(flops * rate)
    # Weights and both moments of the optimiser, and what the compiler keeps beside them.
    assert 3 * 4 * (4 * 16 + 16 * 3) < machine["step_memory_bytes"] < 1e6
    unknown = ("patches_per_second", "share_of_peak", "memory_peak_bytes")
    assert [machine[name] for name in unknown] == [None] * 3


def test_a_finished_run_takes_no_step(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=2)
    first = run(tmp_path, config)
    before = contents(tmp_path)

    def no_batch(start: int) -> Iterator[Any]:
        raise AssertionError(f"asked for a batch after step {start}")
        yield

    again = run(tmp_path, config, batches=no_batch)
    assert digest(again.state) == digest(first.state)
    assert (again.step, again.interrupted) == (2, False)
    assert contents(tmp_path) == before


def test_validation_does_not_reach_the_training(
    tmp_path: Path, straight: tuple[Path, FitResult]
) -> None:
    without = run(tmp_path, validate=None)
    assert digest(without.state) == digest(straight[1].state)


def test_callbacks_are_told_what_is_logged(straight: tuple[Path, FitResult]) -> None:
    expected = []
    for record in lines(straight[0]):
        step, measured = record.pop("step"), record.pop("validation/loss", None)
        expected.append(("step", step, record))
        expected += [("evaluate", step, {"loss": measured})] if measured is not None else []
    finite = [
        (kind, step, {name: x if np.isfinite(x) else None for name, x in metrics.items()})
        for kind, step, metrics in TOLD
    ]
    assert finite == expected


@pytest.mark.slow
def test_a_patience_that_is_never_hit_changes_nothing(
    tmp_path: Path, straight: tuple[Path, FitResult]
) -> None:
    settings: Any = {"checkpoint_every": 4, "keep_best": "min:loss", "patience": 9}
    result = run(tmp_path, dataclasses.replace(CONFIG, **settings))
    assert digest(result.state) == digest(straight[1].state)
    assert (result.step, result.ended_early, result.interrupted) == (12, False, False)
    assert lines(tmp_path) == lines(straight[0])


def test_abort_names_the_step_and_saves_nothing_after_it(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, on_nonfinite="abort")
    for _ in range(2):  # Resumed, it ends in the same place.
        with pytest.raises(InputError, match=f"got a loss of nan .* at step {NAN_STEP};"):
            run(tmp_path, config)
        with Checkpoints(tmp_path / "checkpoints") as checkpoints:
            assert checkpoints.latest_step == 4
        assert lines(tmp_path)[-1]["step"] == NAN_STEP


def test_abort_comes_before_the_save_of_the_same_step(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, on_nonfinite="abort", checkpoint_every=NAN_STEP)
    with pytest.raises(InputError, match="must be finite"):
        run(tmp_path, config)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step is None


class Enough(Exception):
    """Of the user's own."""


def test_what_a_callback_raises_goes_through_and_the_run_goes_on(
    tmp_path: Path, straight: tuple[Path, FitResult]
) -> None:
    told = Told()

    def raising(step: int, metrics: dict[str, Any]) -> None:
        told.on_step(step, metrics)
        if step == 7:
            raise Enough

    with pytest.raises(Enough):
        run(tmp_path, on_step=raising)
    assert [step for _, step, _ in told] == [*range(1, 8)]
    # Metrics are cut back to the checkpoint.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "loss": 99.0}\n{"step": 8, "lo')
    result = run(tmp_path, on_step=told.on_step)
    # The last checkpoint was committed all the same; what came after it is told again.
    assert [step for _, step, _ in told[7:]] == [*range(7, 13)]
    assert told[7] == told[6]
    assert digest(result.state) == digest(straight[1].state)
    assert lines(tmp_path) == lines(straight[0])


def test_progress_goes_to_stderr_or_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(CONFIG, steps=2)
    run(tmp_path / "silent", config, progress=False)
    assert capsys.readouterr() == ("", "")
    run(tmp_path / "shown", config, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err
    assert "steps/s" in err
    assert "loss=" in err


def test_another_thread_trains_without_a_handler(tmp_path: Path) -> None:
    import threading

    results: list[FitResult] = []
    config = dataclasses.replace(CONFIG, steps=2)
    thread = threading.Thread(target=lambda: results.append(run(tmp_path, config)))
    thread.start()
    thread.join()
    assert results[0].step == 2


def damaged(workdir: Path) -> None:
    data = max((workdir / "checkpoints/12/state").glob("d/*"), key=lambda p: p.stat().st_size)
    data.write_bytes(data.read_bytes()[:100])


@pytest.mark.parametrize(
    ("change", "spoil", "message"),
    [
        ({"steps": 11}, None, "train.steps must be at least 12"),
        ({"optimizer": dataclasses.replace(CONFIG.optimizer, name="sgd")}, None,
         "got one made by another"),
        ({}, damaged, "checkpoints/12 must be whole"),
    ],
)  # fmt: skip
def test_what_cannot_be_resumed_is_left_as_it_was(
    tmp_path: Path, straight: tuple[Path, FitResult], change: Any, spoil: Any, message: str
) -> None:
    import shutil

    workdir = tmp_path / "run"
    shutil.copytree(straight[0], workdir)
    if spoil:
        spoil(workdir)
    before = contents(workdir)
    with pytest.raises(InputError, match=message):
        run(workdir, dataclasses.replace(CONFIG, **change))
    assert contents(workdir) == before


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    workdir.write_text("mine")
    with pytest.raises(InputError, match=r"run/checkpoints must be writable.*workdir="):
        run(workdir)
    assert workdir.read_text() == "mine"
    (tmp_path / "other" / "metrics.jsonl").mkdir(parents=True)
    with pytest.raises(InputError, match=r"metrics\.jsonl must be writable"):
        run(tmp_path / "other")


def test_bad_input_writes_nothing(tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    with pytest.raises(InputError, match="got 12 on 8 devices; use 8 or 16"):
        run(workdir, dataclasses.replace(CONFIG, batch_size=12))

    def too_wide(rngs: nnx.Rngs) -> nnx.Module:
        raise InputError("window too long")

    with pytest.raises(InputError, match="window too long"):
        run(workdir, create_model=too_wide)
    assert not workdir.exists()


def test_the_seed_decides_weights_and_dropout(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=1)
    first, same, other = (
        run(tmp_path / str(number), dataclasses.replace(config, seed=seed), validate=None)
        for number, seed in enumerate((3, 3, 4))
    )
    assert digest(first.state) == digest(same.state)
    assert digest(first.state) != digest(other.state)
