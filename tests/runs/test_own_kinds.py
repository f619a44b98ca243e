"""A task, a layout of data and a backbone of one's own go through everything; nothing is edited."""

import dataclasses
import gc
import json
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from flax import nnx

import stpatch_jax as st
from stpatch_jax.data import DataConfig, InputAxes, Problem
from stpatch_jax.errors import InputError
from stpatch_jax.nn import Backbone, BackboneConfig
from stpatch_jax.patches import WindowSpec, extract_patches
from stpatch_jax.runs import DefaultJudge, RunConfig, evaluate, judges
from stpatch_jax.runs.explaining import explain
from stpatch_jax.runs.predicting import predict
from stpatch_jax.runs.searching import search
from stpatch_jax.tasks import TaskBase, TaskConfig
from stpatch_jax.training import OptimizerConfig, TrainConfig

SPLITS = {"train": slice(0, 32), "validation": slice(32, 40), "test": slice(40, 51)}
TRAIN = TrainConfig(
    steps=150,
    batch_size=8,
    checkpoint_every=150,
    evaluate_every=150,
    optimizer=OptimizerConfig(learning_rate=3e-2),
)


class Examples(list):
    """A list is a source."""


class Tracks(Problem):
    """Points along tracks [track, time, 2], and how long the way is that they go."""

    def __init__(self, tracks: np.ndarray, scale: float, splits: Mapping[str, slice]):
        self.tracks, self.scale, self.splits = tracks, scale, splits

    @property
    def report(self) -> dict[str, Any]:
        return {
            "splits": {name: {"tracks": len(self.tracks[s])} for name, s in self.splits.items()}
        }

    @property
    def mean_length(self) -> float:
        return float(lengths(self.tracks[self.splits["train"]]).mean())

    def source(self, split: str) -> Examples:
        tracks = self.tracks[self.splits[split]]
        scaled = ((tracks - tracks[:, :1]) / self.scale).astype(np.float32)
        pairs = zip(scaled, lengths(tracks).astype(np.float32), strict=True)
        return Examples({"track": track, "length": length} for track, length in pairs)

    def state(self) -> dict[str, Any]:
        return {"scale": np.float64(self.scale) + np.zeros(1)}

    def input_axes(self, split: str, number: int) -> InputAxes:
        return InputAxes(channels=("east", "north"), unit="degrees, scaled")


def lengths(tracks: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.diff(tracks, axis=1), axis=-1).sum(axis=1)


@dataclasses.dataclass(frozen=True)
class TracksConfig(DataConfig):
    def load(self) -> Tracks:
        tracks = np.load(self.file())
        return Tracks(tracks, tracks[SPLITS["train"]].std(), SPLITS)

    def of(self, values: Any) -> Tracks:
        return Tracks(values, values[SPLITS["train"]].std(), SPLITS)

    def restore(self, path: str, state: Mapping[str, Any]) -> Tracks:
        return Tracks(np.load(path), state["scale"].item(), {"all": slice(None)})


class Length(TaskBase):
    """One number for a whole track."""

    inputs = ("track",)

    def __init__(self, config: "LengthConfig", *, mean: float | None = None):
        self.config, self.mean = config, mean

    @property
    def facts(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def fitted(self, data: Any) -> "Length":
        return Length(self.config, mean=data.mean_length)

    def build(self, backbone: BackboneConfig, shapes: Any, *, rngs: nnx.Rngs) -> nnx.Module:
        shape = tuple(shapes["track"])
        return Regressor(backbone.build(shape[-1], shape=shape[1:-1], rngs=rngs), rngs)

    def predict(self, model: Any, batch: Any) -> jax.Array:
        return self.mean + model(batch["track"])

    def loss(self, model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        error = self.predict(model, batch) - batch["length"]
        return jnp.mean(error**2), {"bias": jnp.mean(error)}

    def baselines(self, batch: Any) -> dict[str, jax.Array]:
        return {"mean": jnp.full(batch["length"].shape, jnp.float32(self.mean))}

    def score(self, outputs: jax.Array, batch: Any) -> dict[str, jax.Array]:
        return {"mae": jnp.mean(jnp.abs(outputs - batch["length"]))}


@dataclasses.dataclass(frozen=True)
class LengthConfig(TaskConfig):
    def create(self, *, facts: Mapping[str, Any] | None = None) -> Length:
        return Length(self, **(facts or {}))


class Regressor(nnx.Module):
    def __init__(self, backbone: Any, rngs: nnx.Rngs):
        self.backbone = backbone
        self.out = nnx.Linear(backbone.out_features, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.out(self.backbone(x).mean(axis=1))[..., 0]


class Mixing(Backbone):
    """A dense layer on every patch."""

    def __init__(self, config: Any, in_features: int, *, shape: Any, rngs: nnx.Rngs):
        super().__init__(config.spec, in_features, config.features, shape=shape)
        self.mix = nnx.Linear(config.spec.window[0] * in_features, config.features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        patches = extract_patches(x, self.spec)
        return nnx.relu(self.mix(patches.reshape(*patches.shape[:2], -1)))


@dataclasses.dataclass(frozen=True)
class MixingConfig(BackboneConfig[Mixing]):
    spec: WindowSpec = dataclasses.field(default_factory=lambda: WindowSpec((2,), stride=(1,)))
    features: int = 16


CONFIG = RunConfig(
    recipe="tracks", data=TracksConfig(), model=MixingConfig(), task=LengthConfig(), train=TRAIN
)


def walks(seed: int, count: int = 51) -> np.ndarray:
    """Walks of steps of one length each, which differs from walk to walk."""
    random = np.random.default_rng(seed)
    angles = random.uniform(0, 2 * np.pi, (count, 8))
    steps = np.stack([np.cos(angles), np.sin(angles)], -1) * random.uniform(0.5, 2, (count, 1, 1))
    return np.cumsum(steps, axis=1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("tracks") / "tracks.npy"
    np.save(path, walks(0))
    return path


@pytest.fixture(scope="module")
def run(path):
    """A run directory made from the file."""
    directory = path.parent / "run"
    config = dataclasses.replace(CONFIG, data=TracksConfig(str(path)))
    text = st.train(config, workdir=directory, progress=False).report
    assert text.startswith("# tracks\n")
    return directory


def report_of(directory):
    return json.loads((directory / "report.json").read_text())


def test_training_reports_loss_and_scores_beside_the_rules(run):
    report = report_of(run)
    test = report["test"]
    assert test["examples"] == report["data"]["splits"]["test"]["tracks"] == 11
    assert test["scores"]["model"].keys() == {"loss", "bias", "mae"}
    assert test["scores"]["mean"].keys() == {"mae"}
    assert test["scores"]["model"]["mae"] < test["scores"]["mean"]["mae"]
    tracks = np.load(run.parent / "tracks.npy")
    truth, mean = lengths(tracks[SPLITS["test"]]), lengths(tracks[SPLITS["train"]]).mean()
    assert test["scores"]["mean"]["mae"] == pytest.approx(np.abs(truth - mean).mean(), rel=1e-5)
    answers = st.load_run(run).answers({"track": np.stack([e["track"] for e in examples(run)])})
    assert test["scores"]["model"]["loss"] == pytest.approx(((answers - truth) ** 2).mean(), 1e-4)
    # Settings are compared by the first.
    assert next(iter(report["validation"])) == "loss"
    assert report["patches"] == 7
    assert (
        f"| mean | - | - | {test['scores']['mean']['mae']:.4g} |" in (run / "report.md").read_text()
    )
    assert (run / "plots/learning.png").exists()


def examples(run):
    return st.load_run(run).data().source("test")


@pytest.mark.slow
def test_evaluation_and_data_in_memory_say_the_same(run, path, tmp_path):
    report = report_of(run)
    evaluate(run)
    assert report_of(run) == report
    # An array in memory, and a data set as it is.
    for name, data in {"array": walks(0), "data": TracksConfig(str(path)).load()}.items():
        st.train(CONFIG, data=data, workdir=tmp_path / name, progress=False)
        own = report_of(tmp_path / name)
        assert own["test"] == report["test"]
    found = explain(tmp_path / "data", data=walks(0), method=("occlusion",))
    xr.testing.assert_equal(found.input, explain(run, method=("occlusion",)).input)
    evaluate(tmp_path / "data", data=walks(0))
    with pytest.raises(InputError, match="must be what it was trained on, got another"):
        evaluate(tmp_path / "data", data=walks(1))


@pytest.mark.slow
def test_a_search_tries_settings_of_ones_own(path, tmp_path):
    config = dataclasses.replace(
        CONFIG,
        data=TracksConfig(str(path)),
        train=dataclasses.replace(TRAIN, steps=2, checkpoint_every=2, evaluate_every=2),
    )
    space: dict[str, Any] = {"model.features": [4, 8]}
    trials = search(config, space, workdir=tmp_path, progress=False) or []
    assert {trial.values["model.features"] for trial in trials} == {4, 8}
    assert [trial.loss for trial in trials] == sorted(trial.loss for trial in trials)


def test_another_file_is_predicted_and_the_run_is_open_to_python(run, tmp_path):
    other = walks(3, count=5)
    np.save(tmp_path / "other.npy", other)
    predict(run, str(tmp_path / "other.npy"), tmp_path / "lengths.csv", progress=False)
    table = pd.read_csv(tmp_path / "lengths.csv")
    assert len(table) == 5
    trained = st.load_run(run)
    tracks = np.stack(
        [e["track"] for e in trained.data(path=str(tmp_path / "other.npy")).source("all")]
    )
    answers = trained.answers({"track": tracks})
    np.testing.assert_allclose(table["output"], answers, rtol=1e-5)
    model: Any = trained.model
    np.testing.assert_allclose(trained.task.predict(model, {"track": tracks}), answers, rtol=1e-5)
    assert trained.model is model
    np.testing.assert_array_equal(trained.state["scale"], trained.data().state()["scale"])


def test_an_answer_is_explained(run):
    found = explain(run, method=("occlusion", "integrated_gradients"), example=0)
    assert isinstance(found, xr.Dataset)
    assert found["input"].dims == ("time", "channel")
    assert found["input"].channel.values.tolist() == ["east", "north"]
    gradients = found["integrated_gradients"]
    assert float(np.abs(gradients).sum()) > 0
    gap = abs(gradients.attrs["completeness_gap"])
    assert gap < 0.05 * max(1.0, abs(gradients.attrs["score_gain"]))


def test_a_judge_of_ones_own_is_found_for_subclasses_too():
    class OtherLength(Length):
        """For this test alone."""

    class LongTracks(Tracks):
        """Found by its base."""

    @judges(OtherLength, Tracks)
    class OwnJudge(DefaultJudge):
        """For this test alone."""

    data = LongTracks(walks(0), 1.0, SPLITS)
    assert judges.of(OtherLength(LengthConfig()), data) is OwnJudge
    assert judges.of(OtherLength(LengthConfig()), object()) is DefaultJudge
    assert judges.of(Length(LengthConfig()), data) is DefaultJudge


@pytest.mark.parametrize("missing", ["report", "source", "digest"])
def test_data_without_a_member_are_refused_before_anything_is_written(missing, tmp_path):
    members = {name: getattr(Tracks, name) for name in ("report", "source", "state", "input_axes")}
    members |= {name: getattr(Problem, name) for name in ("digest", "names")}
    members["__init__"] = Tracks.__init__
    del members[missing]
    partial = type("Partial", (), members)
    with pytest.raises(InputError, match=f"members of Data, got Partial without {missing}"):
        st.train(CONFIG, data=partial(walks(0), 1.0, SPLITS), workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_task_without_a_member_is_refused_before_anything_is_written(tmp_path):
    class NoLoss(TaskBase):
        inputs = ("track",)

        def build(self, backbone: Any, shapes: Any, *, rngs: nnx.Rngs) -> nnx.Module:
            raise AssertionError

        def predict(self, model: Any, batch: Any) -> Any:
            raise AssertionError

    @dataclasses.dataclass(frozen=True)
    class NoLossConfig(TaskConfig):
        def create(self, *, facts: Mapping[str, Any] | None = None) -> Any:
            return NoLoss(self)

    config = dataclasses.replace(CONFIG, task=NoLossConfig())
    with pytest.raises(InputError, match="members of Task, got NoLoss without loss"):
        st.train(config, data=walks(0), workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


SHORT = dataclasses.replace(
    CONFIG, train=dataclasses.replace(TRAIN, steps=2, checkpoint_every=2, evaluate_every=2)
)


def of_task(task: type[Length]) -> RunConfig:
    """The settings of a short run of another task."""

    @dataclasses.dataclass(frozen=True)
    class Config(LengthConfig):
        def create(self, *, facts: Mapping[str, Any] | None = None) -> Length:
            return task(self, **(facts or {}))

    return dataclasses.replace(SHORT, task=Config())


class Variant(Length):
    """Another task of the same facts."""

    def fitted(self, data: Any) -> "Variant":
        return type(self)(self.config, mean=data.mean_length)


def test_what_an_example_weighs_is_the_same_for_the_model_and_the_rules(tmp_path):
    class Weighed(Variant):
        def loss(self, model: Any, batch: Any) -> Any:
            loss, metrics = super().loss(model, batch)
            return loss, {**metrics, "weight": jnp.sum(batch["length"]), "divisor": 1}

        def score(self, outputs: Any, batch: Any) -> Any:
            # Of short tracks nothing is known.
            long = batch["length"] > 8
            share = jnp.sum(long * outputs) / jnp.sum(long)
            return {"mean": share, "weight": jnp.sum(long)}

    data = Tracks(walks(0), 1.0, SPLITS)
    st.train(of_task(Weighed), data=data, workdir=tmp_path, progress=False)
    scores = report_of(tmp_path)["test"]["scores"]
    assert list(scores) == ["model", "mean"]
    assert scores["model"].keys() == {"loss", "bias", "mean"}
    assert scores["mean"]["mean"] == pytest.approx(data.mean_length, rel=1e-6)
    test = data.source("test")
    length = np.array([example["length"] for example in test])
    long = length > 8
    assert 0 < long.sum() < len(long)
    answers = st.load_run(tmp_path).answers({"track": np.stack([x["track"] for x in test])})
    assert scores["model"]["mean"] == pytest.approx(answers[long].mean(), rel=1e-5)
    bias = np.average(answers - length, weights=length)
    assert scores["model"]["bias"] == pytest.approx(bias, rel=1e-4)


def test_what_was_never_measured_is_null(tmp_path):
    class Nothing(Variant):
        def score(self, outputs: Any, batch: Any) -> Any:
            return {"mae": jnp.mean(outputs), "weight": 0}

    st.train(of_task(Nothing), data=walks(0), workdir=tmp_path, progress=False)
    assert report_of(tmp_path)["test"]["scores"]["mean"] == {"mae": None}
    assert report_of(tmp_path)["validation"]["mae"] is None
    assert "| mean | - | - | - |" in (tmp_path / "report.md").read_text()


class Vector(Variant):
    def score(self, outputs: Any, batch: Any) -> Any:
        return {"mae": jnp.abs(outputs - batch["length"])}


class Usurper(Variant):
    def baselines(self, batch: Any) -> Any:
        return {"model": batch["length"]}


class OneForAll(Variant):
    def baselines(self, batch: Any) -> Any:
        return {"mean": self.mean}


class LossAlone(Variant):
    def loss(self, model: Any, batch: Any) -> Any:
        return super().loss(model, batch)[0]


class LossOfEach(Variant):
    def loss(self, model: Any, batch: Any) -> Any:
        return (self.predict(model, batch) - batch["length"]) ** 2, {}


class MetricOfEach(Variant):
    def loss(self, model: Any, batch: Any) -> Any:
        return super().loss(model, batch)[0], {"errors": batch["length"]}


class Elsewhere(Variant):
    inputs = ("track", "tracks")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (LossOfEach, r"must be scalars, got loss of shape \(8,\)"),
        (MetricOfEach, r"must be scalars, got errors of shape \(8,\)"),
        (Elsewhere, r"must be arrays of the examples, got \('track', 'tracks'\) for"),
        (Vector, r"must be scalars, got mae of shape \(1,\)"),
        (Usurper, "must have a name of its own, got 'model'"),
        (OneForAll, r"answers of mean must be of every example, .* got shapes \[\(\)\]"),
        (LossAlone, r"must give the pair \(loss, metrics\), got"),
    ],
)
def test_a_task_that_answers_otherwise_is_told_how(task, message, tmp_path):
    with pytest.raises(InputError, match=message):
        st.train(of_task(task), data=walks(0), workdir=tmp_path, progress=False)


class Odd(Tracks):
    """Data with one thing wrong."""

    def __init__(self, wrong: str):
        super().__init__(walks(0), 1.0, SPLITS)
        self.wrong = wrong

    @property
    def report(self) -> dict[str, Any]:
        return {"splits": {}, "when": pd.Timestamp("2020")} if self.wrong == "report" else {}

    def state(self) -> dict[str, Any]:
        return {"when": pd.Timestamp("2020")} if self.wrong == "state" else {}

    def source(self, split: str) -> Any:
        examples = super().source(split)
        if self.wrong == "iterator":
            return iter(examples)
        if self.wrong == "text":
            return [{**example, "name": "a"} for example in examples]
        return examples[:0] if self.wrong == split else examples


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("report", r"data\.report\.when must be a number, .* got Timestamp"),
        ("state", r"data\.state\(\)\.when must be a number, .* got Timestamp"),
        ("iterator", "members of Source, got list_iterator without __getitem__, __len__"),
        ("text", "must be of numbers, got name of dtype <U1"),
        ("train", "the train split must have examples, got none"),
        ("test", "the test split must have examples, got none"),
    ],
)
def test_data_that_no_run_can_end_with_are_refused_before_anything_is_written(
    wrong, message, tmp_path
):
    with pytest.raises(InputError, match=message):
        st.train(SHORT, data=Odd(wrong), workdir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_numbers_of_numpy_and_arrays_of_jax_are_saved(tmp_path):
    class OfNumpy(Tracks):
        @property
        def report(self) -> dict[str, Any]:
            return {"splits": {}, "scale": np.float32(2), "gap": float("nan")}

        def state(self) -> dict[str, Any]:
            return {"count": np.int64(3), "mean": jnp.arange(2.0)}

    data = OfNumpy(walks(0), 1.0, SPLITS)
    st.train(SHORT, data=data, workdir=tmp_path, progress=False)
    assert report_of(tmp_path)["data"] == {"splits": {}, "scale": 2.0, "gap": None}
    state = st.load_run(tmp_path).state
    assert state["count"] == 3
    np.testing.assert_array_equal(state["mean"], [0, 1])


def test_a_batch_to_predict_is_checked(run):
    trained = st.load_run(run)
    with pytest.raises(InputError, match="must have the inputs track, got length"):
        trained.answers({"length": np.ones(2)})
    with pytest.raises(InputError, match="and one at least, got"):
        trained.answers({"track": np.zeros((0, 8, 2))})


def test_a_run_without_a_directory_lasts_as_long_as_it_is_in_use(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = dataclasses.replace(SHORT, recipe="")
    with pytest.raises(InputError, match="must have the members of Data"):
        st.train(config, data=object(), progress=False)
    with pytest.raises(InputError, match=r"got the path sales\.csv; give it as path="):
        st.forecast("sales.csv", progress=False)
    assert not list(tmp_path.iterdir())
    run = st.train(config, data=walks(0))
    assert f"the run lies in {run.directory.path} while it is in use" in capsys.readouterr().err
    # It is named by its task.
    assert run.report.startswith("# Length\n")
    assert run.report == (run.directory.path / "report.md").read_text()
    assert run.metrics == report_of(run.directory.path)
    assert run.answers({"track": walks(1, 3)}).shape == (3,)
    del run
    gc.collect()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("tracks", "the recipe must be"),
        ({"recipe": "weather"}, r"must be a RunConfig, got .*; give that of a recipe"),
    ],
)
def test_what_is_no_configuration_is_refused(config, told, tmp_path):
    with pytest.raises(InputError, match=told):
        st.train(config, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_method_may_be_given_by_its_name(run):
    one = explain(run, method="occlusion")
    xr.testing.assert_identical(one, explain(run, method=("occlusion",)))
    unknown: Any = ("lime",)
    with pytest.raises(InputError, match=r"method must be 'occlusion', .* got 'lime'"):
        explain(run, method=unknown)
