"""Recipes on any file, and walking forward: mistakes, spans, what is ahead of what."""

import dataclasses
import itertools
import json
import sys
import types

import numpy as np
import pytest
from small_panel import write_table
from small_prices import price_table

from benchmarks import published
from benchmarks.experiments import Experiment
from benchmarks.published import KEY, experiment_of, horizons_of, scores_of
from benchmarks.scores import draws
from benchmarks.walking import compared, joined, walk
from stpatch_jax import nn
from stpatch_jax.errors import InputError
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes import recipe
from stpatch_jax.runs import Judged
from stpatch_jax.runs.judging import Losses
from stpatch_jax.training import OptimizerConfig, TrainConfig


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["published", *map(str, arguments)])
    published.main()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing", "--data.path", "{table}"), "the recipe must be 'classify', "),
        (
            ("forecast",),
            "the protocol (a recipe without one needs --data.path) must be",
        ),
        (("forecast", "--data.path", "{folder}/none.csv"), "there must be a file at "),
        (("forecast", "--data.path", "{broken}"), "a column of broken.csv must hold dates like "),
        (("stocks", "--data.path", "{table}", "--horizons", "2", "500"), "must"),
        (("stocks", "--data.path", "{table}", "--seeds", "0"), "--seeds must be a whole number"),
        (("stocks", "--data.path", "{table}", "--folds", "40"), "folds= must be at most"),
        (
            ("video-classification", "--horizons", "2"),
            "recipe with data.horizon, got video-c",
        ),
        (("scan", "--folds", "2"), "--folds must be of rows in order of time, got Labelled"),
        (("etth1", "--data.path", "a/ETTh1.csv"), "--data.path must not be called as the data "),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    monkeypatch, capsys, tmp_path, arguments, message
):
    table, broken = write_table(tmp_path / "three.csv"), tmp_path / "broken.csv"
    broken.write_text("a,b\n1,2\n", encoding="utf-8")
    told = {"table": table, "broken": broken, "folder": tmp_path}
    arguments = [word.format(**told) for word in arguments]
    results = tmp_path / "results"
    with pytest.raises(SystemExit) as exit_:
        run(monkeypatch, *arguments, "--results", results)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not results.exists()


def test_a_file_is_scored_by_a_recipe_without_its_protocol(tmp_path):
    table = write_table(tmp_path / "three.csv", rows=200)
    found = experiment_of("forecast", str(table))
    assert found == Experiment("forecast", "three", (), name="forecast-three", path=str(table))
    (horizon,) = horizons_of(found, None)
    assert isinstance(horizon, int)
    assert horizons_of(found, [2, 3]) == (2, 3)
    # Of a protocol the recipe alone is left.
    weather = experiment_of("weather", str(table))
    assert (weather.recipe, weather.leads, weather.horizons) == ("weather", None, (None,))


def test_a_recipe_that_reads_no_file_takes_none(monkeypatch):
    made = dataclasses.make_dataclass("Made", [("seed", int)])
    config = types.SimpleNamespace(data=made(0), recipe="made")
    monkeypatch.setattr(published, "recipe", lambda name: config)
    with pytest.raises(InputError, match="recipe that reads files, got made; leave it out"):
        experiment_of("made", "a.csv")


def test_kinds_without_a_protocol_are_scored_by_what_their_verdict_compares():
    class Judge:
        def losses(self, judged):
            del judged
            of = {"model": np.array([1.0, 2.0, 6.0]), "rule": np.array([2.0, 4.0, 3.0])}
            return Losses("the loss", of, np.array([1, 2, 3]), block=2)

    scores, groups = scores_of(Judge(), Judged("test", 3, {}, {}, {}), Experiment("a", "b", ()))
    assert scores["the loss"]["model"](np.arange(3)) == pytest.approx(9 / 6)
    assert scores["the loss"]["rule"](np.array([0, 2])) == pytest.approx(5 / 4)
    assert groups.tolist() == [0, 0, 1]


def test_blocks_of_neighbouring_groups_are_drawn_together():
    groups = np.repeat([3, 4, 5, 9, 10, 11, 12], 2)
    order = [3, 4, 5, 9, 10, 11, 12]
    for chosen in list(draws(groups, block=3))[:50]:
        days = groups[chosen][::2].tolist()
        assert groups[chosen][1::2].tolist() == days
        assert len(days) == 7
        for start in (0, 3):
            at = order.index(days[start])
            assert days[start : start + 3] == [order[(at + step) % 7] for step in range(3)]
    alone = [groups[chosen][::2].tolist() for chosen in draws(groups)]
    assert len({tuple(days) for days in alone}) > 900


@pytest.mark.parametrize(
    ("metric", "model", "rules", "best", "ahead"),
    [
        ("mae", 0.9, {"a": 1.0, "b": 1.2}, "a", 0.1),
        ("accuracy", 0.9, {"a": 1.0, "b": 1.2}, "b", -0.3),
        ("coverage", 0.07, {"a": 0.02, "b": 0.055}, "b", -0.015),
    ],
)
def test_what_is_ahead_is_told_of_the_rule_that_was_best(metric, model, rules, best, ahead):
    values = {"model": model, **rules}
    noise = np.random.default_rng(0).normal(size=400)

    def score(value):
        # What moves all of them alike moves no difference.
        return lambda chosen: value + 1e-6 * float(noise[chosen].mean())

    seeds = [{name: score(of + move) for name, of in values.items()} for move in (-0.01, 0.01)]
    found = compared(metric, seeds, np.arange(400), level=0.05)
    assert found["value"] == pytest.approx(model, abs=1e-5)
    assert found["block"] == 20
    assert found["interval"][0] < found["value"] < found["interval"][1]
    assert set(found["rules"]) == set(rules)
    assert found["ahead"]["of"] == best
    assert found["ahead"]["value"] == pytest.approx(ahead, abs=1e-5)
    np.testing.assert_allclose(found["ahead"]["interval"], ahead, atol=1e-5)


def write_movement(path, *, days=60):
    random = np.random.default_rng(0)
    features = random.normal(size=(3, days, 2)).astype(np.float32)
    label = np.where(random.random((3, days)) < 0.5, -1, 1)
    dates = np.datetime64("2024-01-01") + np.arange(days)
    np.savez(path, features=features, label=label, dates=dates)
    return path


def small(name, folder):
    """The configuration of a recipe on a small file, and the first row of the first of 3 spans."""
    config = recipe(name)
    if name == "stocks":
        told = {"path": str(write_table(folder / "three.csv")), "context": 8, "horizon": 2}
        first = 80 - 3 * 13
    elif name == "stock-risk":
        price_table(rows=700).to_csv(folder / "prices.csv", index=False)
        told = {"path": str(folder / "prices.csv"), "horizon": 5}
        first = 700 - 3 * 116
    else:
        dates = ("2024-01-04", "2024-02-01", "2024-02-10")
        names = ("train_from", "validation_from", "test_from")
        path = write_movement(folder / "moves.npz")
        told = {"path": str(path), "lag": 2, **dict(zip(names, dates, strict=True))}
        first = 60 - 3 * (57 // 2 // 3)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **told)), first


@pytest.mark.parametrize("name", ["stocks", "stock-risk", "stock-movement"])
def test_spans_follow_each_other_behind_what_is_trained_on(name, tmp_path):
    config, first = small(name, tmp_path)
    ahead = vars(config.data).get("horizon", 1)
    walked = walk(config, 3)
    tested, before = [], 0
    for _, data in walked.parts:
        rows = {
            split: np.array(
                [of.get("group", of.get("index")) for of in map(data.source(split).__getitem__, n)]
            )
            for split, n in {k: range(len(data.source(k))) for k in data.splits}.items()
        }
        assert rows["train"].max() < rows["validation"].min()
        assert rows["validation"].max() < rows["test"].min()
        # The window of what is known grows.
        assert len(rows["train"]) > before
        before = len(rows["train"])
        tested.append(np.unique(rows["test"]))
    assert first <= tested[0].min() <= first + ahead
    assert tested[-1].max() >= len(walked.times) - ahead
    assert all(a.max() < b.min() <= a.max() + 2 * ahead for a, b in itertools.pairwise(tested))
    assert {len(rows) for rows in tested} == {len(tested[0])}


def test_what_was_judged_span_by_span_is_one():
    spans = [
        Judged("test", n, {}, {"index": np.arange(n), "errors": {"model": np.ones(n)}}, {})
        for n in (2, 3)
    ]
    whole = joined(spans)
    assert whole.count == 5
    assert whole.rows["index"].tolist() == [0, 1, 0, 1, 2]
    assert whole.rows["errors"]["model"].shape == (5,)


@pytest.mark.slow
def test_a_file_gets_rows_of_its_split_and_of_a_walk(monkeypatch, capsys, tmp_path):
    table = write_table(tmp_path / "three.csv")
    optimizer = OptimizerConfig(learning_rate=1e-3, warmup_steps=1)
    train = TrainConfig(4, 8, checkpoint_every=2, evaluate_every=2, optimizer=optimizer)
    model = nn.FlatPatchesConfig(WindowSpec((None, 1)))
    quick = dataclasses.replace(recipe("stocks"), model=model, train=train)
    monkeypatch.setattr(published, "recipe", lambda name: quick)
    arguments = ("stocks", "--data.path", table, "--horizons", "2", "--results", tmp_path / "out")
    run(monkeypatch, *arguments)
    run(monkeypatch, *arguments, "--folds", "2")
    capsys.readouterr()
    rows, walked = (
        json.loads((tmp_path / "out" / name).read_text(encoding="utf-8"))
        for name in ("published.json", "walk_forward.json")
    )
    for found in (rows, walked):
        assert [row["metric"] for row in found] == ["mse", "mae", "rmse"]
        assert all([row[key] for key in KEY[:3]] == ["stocks", "three", 2] for row in found)
    for row in rows:
        assert row["published"] is None
        assert row["test_openings"] == 1
        assert {"persistence", "drift"} <= row["naive"].keys()
    for row in walked:
        # The look of before is counted.
        assert row["test_openings"] == 2
        assert row["first"] < row["last"]
        ahead, rules = row["ahead"], row["rules"]
        best = min(of["value"] for of in rules.values())
        assert ahead["value"] == pytest.approx(best - row["value"])
        assert rules[ahead["of"]]["value"] == best
