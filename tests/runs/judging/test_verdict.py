"""The verdict of a report: the rule that was best before, and an interval as NumPy has it."""

import numpy as np
import pytest

from stpatch_jax.runs.judging.verdict import Losses, losses_of, verdict, verdict_lines

RANDOM, COUNT = np.random.default_rng(3), 60


@pytest.fixture(autouse=True)
def _of_one_seed(monkeypatch):
    """Each test draws the same, whatever ran before it."""
    monkeypatch.setitem(globals(), "RANDOM", np.random.default_rng(3))


def losses(model: float, *, block: int = 6, count: int = COUNT, **rules: float) -> Losses:
    """Losses of some mean size, spread about as much."""
    noise = RANDOM.uniform(0.5, 1.5, size=count)
    of = {name: size * noise * RANDOM.uniform(0.9, 1.1, count) for name, size in rules.items()}
    return Losses("MAE", {"model": model * noise, **of}, np.ones(count), block)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (0.75, "Beats drift by 2"),
        (1.35, "Worse than drift by 3"),
        (1.0, "No better than drift: MAE"),
    ],
)
def test_the_rule_is_the_best_one_of_validation_and_the_gain_that_of_the_test(model, told):
    past, test = losses(1, drift=1, season=2), losses(model, drift=1, season=0.1)
    found = verdict(past, test)
    assert found is not None
    assert found["text"].startswith(told)
    assert (found["rule"], found["of"]) == ("drift", 2)
    assert found["gain"] == pytest.approx(1 - test.of["model"].sum() / test.of["drift"].sum())
    low, high = found["interval"]
    assert low < found["gain"] < high
    assert (low < 0 < high) == told.startswith("No better")
    [line, _] = verdict_lines({"verdict": found})
    assert line.endswith("Of 2 rules drift lost least on the validation split.")


def test_the_interval_is_that_of_blocks_drawn_round_the_end():
    test = losses(0.9, block=7, drift=1)
    found = verdict(test, test)
    assert found is not None
    starts = np.random.default_rng(0).integers(COUNT, size=(1000, 9))
    rows = (starts[..., None] + np.arange(7)) % COUNT
    gains = [1 - test.of["model"][r].sum() / test.of["drift"][r].sum() for r in rows]
    np.testing.assert_allclose(found["interval"], np.quantile(gains, (0.025, 0.975)))


def test_too_few_windows_have_no_interval():
    few = losses(0.5, block=6, count=11, drift=1)
    found = verdict(few, few)
    assert found is not None
    assert found["interval"] is None
    assert found["text"].endswith("in MAE, over too few examples for an interval.")


@pytest.mark.parametrize(("model", "word"), [(0.0, "No better"), (0.1, "Worse")])
def test_a_rule_without_loss_is_not_beaten(model, word):
    of = Losses("MAE", {"model": np.full(COUNT, model), "season": np.zeros(COUNT)}, np.ones(COUNT))
    found = verdict(of, of)
    assert found is not None
    assert found["text"] == f"{word} than season, of which MAE is 0."
    assert found["gain"] is found["interval"] is None
    same = Losses("MAE", dict.fromkeys(("model", "season"), np.ones(COUNT)), np.ones(COUNT), 6)
    found = verdict(same, same)
    assert found is not None
    assert found["text"] == "No better than season: MAE is the same for both."


def test_losses_of_one_group_count_together():
    found = losses_of("MAE", {"model": np.array([1.0, 2.0, 4.0])}, group=np.array([7, 3, 7]))
    assert (found.of["model"].tolist(), found.weight.tolist()) == ([2.0, 5.0], [1, 2])


@pytest.mark.parametrize("broken", [{}, {"drift": np.full(COUNT, np.nan)}])
def test_nothing_is_told_without_a_rule_that_has_a_loss(broken):
    of = Losses("MAE", {"model": np.ones(COUNT), **broken}, np.ones(COUNT), 6)
    assert verdict(of, of) is None
