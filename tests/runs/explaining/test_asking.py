"""The question of each kind of run: what the answer does not read counts for nothing."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stpatch_jax import explain
from stpatch_jax.data import CharactersConfig, LabelledVolumesConfig
from stpatch_jax.data.protocols import InputAxes, Problem
from stpatch_jax.errors import InputError
from stpatch_jax.explain.score import scores
from stpatch_jax.nn import Conv3DConfig, PatchCNNConfig, TokenEmbeddingConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.explaining.explanation import hidden_windows
from stpatch_jax.runs.explaining.pictures import draw_maps
from stpatch_jax.runs.judging import judges
from stpatch_jax.runs.judging.question import Asked
from stpatch_jax.tasks import (
    DetectConfig,
    NextToken,
    NextTokenConfig,
    Reconstruct,
    ReconstructConfig,
)
from stpatch_jax.tasks.task import TaskBase
from stpatch_jax.training import make_mesh

CLASSES = ("car", "dog", "cat")


class Frames(Problem):
    """Noise with one object in every frame."""

    report: ClassVar = {"splits": {}}
    classes, class_counts, mean_box = CLASSES, (1, 1, 1), (2.0, 2.0, 8.0, 7.0)

    def source(self, _):
        random = np.random.default_rng(0)
        box = np.array([2, 2, 8, 7], np.float32)
        return [
            {
                "field": random.random((3, 8, 12, 1), np.float32),
                "boxes": np.broadcast_to(box, (3, 1, 4)),
                "label": np.full((3, 1), number % 3),
                "object_mask": np.ones((3, 1), bool),
            }
            for number in range(2)
        ]

    def shown(self, field):
        return field


def characters(folder):
    (folder / "x.txt").write_text("to be or not to be\n" * 8)
    data = CharactersConfig(
        str(folder / "x.txt"), window=16, context=4, validation_share=0.2, test_share=0.2
    ).load()
    body = PatchCNNConfig(WindowSpec((1,)), features=(4,))
    model = TokenEmbeddingConfig(body, vocabulary=256, features=4, longest_window=3)
    return data, model, NextToken(NextTokenConfig(), token_counts=data.token_counts)


def clips(_):
    facts = {"class_counts": (1, 1, 1), "mean_box": (2.0, 2.0, 8.0, 7.0)}
    task = DetectConfig().create(facts=facts)
    return Frames(), PatchCNNConfig(WindowSpec((1, 4, 4)), features=(4,)), task


def volumes(folder):
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = random.integers(0, 255, (4, 8, 8, 8), np.uint8)
        arrays[f"{split}_labels"] = np.arange(4)[:, None] % 2
    np.savez(folder / "x.npz", **arrays)
    model = Conv3DConfig(3, features=(4,), window=(1, 2, 2, 2))
    data = LabelledVolumesConfig(str(folder / "x.npz")).load()
    return data, model, Reconstruct(ReconstructConfig((1, 4, 4, 4), 0.5))


def filled(leaf):
    """Random weights, of heads too, which begin with zeros of which nothing is to be seen."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key(0) if key else np.zeros(leaf.shape, leaf.dtype)
    random = np.random.default_rng(len(leaf.shape))
    return jnp.asarray(random.normal(0, 0.4, leaf.shape).astype(np.float32))


def asked(kind, folder, **flags):
    """A question to a network of random weights, what it is asked of, and the network."""
    data, model, task = kind(folder)
    shapes = {name: (1, *np.shape(x)) for name, x in data.source("test")[0].items()}
    shape: Any = nnx.eval_shape(lambda: task.build(model, shapes, rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(shape)
    network = nnx.merge(graphdef, jax.tree.map(filled, state))
    network = nnx.view(network, deterministic=True, raise_if_not_found=False)
    judge = judges.of(task, data)(task, data, make_mesh(), batch_size=8)
    question: Any = judge.question(Asked(network, task, data, "test", 1, **flags))
    return question, judge, network


def found(question, field=None):
    values = (question.field if field is None else field).values.astype(np.float32)
    # Two, as integrated gradients take them: what is compiled serves both.
    return float(scores(question.score, np.stack([values, values]))[0])


def test_a_character_is_explained_by_those_that_are_read(tmp_path):
    question, judge, network = asked(characters, tmp_path, lead=9)
    batch = judge.data.source("test")[1]
    tokens = batch["tokens"]
    logs = nnx.jit(judge.task.predict)(network, {"tokens": tokens[None]})[0]
    assert found(question) == pytest.approx(float(logs[8, tokens[9]]), abs=1e-5)
    assert "".join(question.field.word.values) == "".join(judge.data.symbols(tokens[:-1]))
    spec = hidden_windows(None, question)
    values = explain.occlusion(question.score, question.field, spec)
    # The text window of three characters that ends before the one that is explained.
    np.testing.assert_array_equal(np.flatnonzero(values), [6, 7, 8])
    for other in (0, 5, 9, 15):
        field = question.field.copy()
        field[other] = ord("x")
        assert found(question, field) == found(question)
    assert set(question.unfit) == {"integrated_gradients", "smooth_grad", "attention_rollout"}
    assert question.place == ((9, 10),)
    figure = draw_maps(question.shown, {"occlusion": values}, title=question.title)
    text = "".join(label.get_text() for label in figure.axes[0].texts)
    assert text == "".join(question.field.word.values)


def test_a_character_can_be_chosen(tmp_path):
    question, judge, _ = asked(characters, tmp_path, target="b")
    assert "log-probability of b after" in question.title
    signs = judge.data.symbols(np.array([97, 32, 10, 0, 7]))
    assert signs == ["a", "\u2423", "\u21b5", "\u00b7", "\u25a1"]
    with pytest.raises(InputError, match="target must be"):
        asked(characters, tmp_path, target="be")
    with pytest.raises(InputError, match="lead must be the number of a character from 1 to 16"):
        asked(characters, tmp_path, lead=17)


def test_an_object_is_explained_by_its_frame(tmp_path):
    question, judge, network = asked(clips, tmp_path)
    batch = judge.data.source("test")[1]
    detected = nnx.jit(judge.task.predict)(network, {"field": batch["field"][None]})
    frame = int(np.asarray(detected.score)[0, :, 0].argmax())
    best = float(detected.score[0, frame, 0])
    assert 1 / (1 + np.exp(-found(question))) == pytest.approx(best, abs=1e-5)
    np.testing.assert_allclose(
        np.transpose(question.place[1:]).ravel(), detected.boxes[0, frame, 0], atol=1e-4
    )
    assert question.place[0] == (frame, frame + 1)
    values = explain.integrated_gradients(question.score, question.field, points=64)
    assert float(values.sum()) == pytest.approx(values.attrs["score_gain"], rel=0.01, abs=1e-3)
    # Each frame is looked at alone.
    assert not values.drop_isel(time=frame).any()
    assert values[frame].any()
    figure = draw_maps(
        question.shown, {"integrated_gradients": values}, title="object", place=question.place
    )
    boxed = [len(ax.patches) > 0 for ax in figure.axes[:3]]
    assert boxed == [at == frame for at in range(3)]
    assert all(ax.get_xlabel() and ax.get_ylabel() for ax in figure.axes[:3])


def test_frame_and_class_of_an_object_can_be_chosen(tmp_path):
    question, _, _ = asked(clips, tmp_path, lead=2, target="dog")
    assert "dog in frame 2 of 3" in question.title
    assert question.place[0] == (1, 2)
    with pytest.raises(InputError, match="lead must be the number of a frame from 1 to 3"):
        asked(clips, tmp_path, lead=4)
    with pytest.raises(InputError, match="target must be 'car', 'dog' or 'cat', got 'bus'"):
        asked(clips, tmp_path, target="bus")


def test_a_hidden_patch_is_explained_by_what_is_shown(tmp_path):
    question, judge, network = asked(volumes, tmp_path)
    field = judge.data.source("test")[1]["field"]
    made = np.asarray(nnx.jit(judge.task.predict)(network, {"field": field[None]}))[0]
    patch = tuple(slice(*bounds) for bounds in question.place)
    assert question.masked[patch].all()
    assert question.masked.mean() == 0.5
    assert found(question) == pytest.approx(float(made[patch].mean()), abs=1e-5)
    spec = hidden_windows(None, question)
    assert spec.grid_shape(field.shape[:-1]) == (1, 2, 2, 2)
    hidden = np.asarray(question.shown.isnull())[..., 0]
    np.testing.assert_array_equal(hidden, question.masked)
    values = explain.occlusion(question.score, question.field, spec).values
    assert not values[hidden].any()
    assert values[~hidden].all()
    with pytest.raises(InputError, match="target must be left out of a question on a hidden patch"):
        asked(volumes, tmp_path, target="a")


class Slope(TaskBase):
    """The last value of a series of whole numbers less its first, twice."""

    inputs = ("series", "sign")

    def predict(self, model, batch):
        slope = (batch["series"][:, -1, 0] - batch["series"][:, 0, 0]) * batch["sign"]
        return {"slope": slope, "both": jnp.stack([slope, slope], axis=1)}

    def loss(self, model, batch):
        return jnp.mean((self.predict(model, batch)["slope"] - batch["truth"]) ** 2), {}


class Series(Problem):
    report: ClassVar = {"splits": {}}

    def source(self, _):
        return [
            {
                "series": np.array([[1], [2], [3], [5.0 + at]], np.float32),
                "sign": np.int32(-1),
                "truth": np.float32(at),
            }
            for at in range(3)
        ]

    def input_axes(self, split, number):
        return InputAxes(coords={"time": [2, 3, 5, 7]}, channels=["height"], unit="m", zero="sea")


def test_the_mean_answer_of_a_task_that_no_judge_knows_is_explained():
    task, data = Slope(None), Series()
    judge = judges.of(task, data)(task, data, make_mesh(), batch_size=8)
    network = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    question: Any = judge.question(Asked(network, task, data, "test", 1))
    assert found(question) == -5
    assert question.field.time.values.tolist() == [2, 3, 5, 7]
    assert (question.field.attrs["units"], question.zero) == ("m", "sea")
    # The second input is held as it is in the example.
    values = explain.integrated_gradients(question.score, question.field, points=8)
    np.testing.assert_allclose(values[:, 0], [1, 0, 0, -6], atol=1e-5)
    quality = np.asarray(scores(question.quality, question.fields.values))
    np.testing.assert_allclose(quality, [-((4.0 + 0) ** 2), -36, -64])
    with pytest.raises(InputError, match="lead must be left out of a question on the mean answer"):
        judge.question(Asked(network, task, data, "test", 1, lead=2))
