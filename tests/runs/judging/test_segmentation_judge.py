"""Classes of cells judged: sums against scikit-learn, whole items by tiles, rules, and pictures."""

import math
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from flax import nnx

from stpatch_jax.data import SegmentedFieldsConfig
from stpatch_jax.runs.judging import SegmentationJudge, judges
from stpatch_jax.runs.judging.segmentation import classes_of
from stpatch_jax.tasks import Segment, SegmentConfig
from stpatch_jax.training import make_mesh

RANDOM = np.random.default_rng(0)
MASKS = RANDOM.integers(0, 3, (20, 9, 8))
MASKS[:, :2] = 7
EACH: Any = {"average": None}
IMAGES = (MASKS + RANDOM.normal(size=MASKS.shape)).astype(np.float32)


class Thresholds(nnx.Module):
    """A class for each cell, of its own value alone, so that tiles cannot change it."""

    def __init__(self):
        self.centre = nnx.Param(jnp.array([-1.0, 0.0, 1.0]))

    def __call__(self, x):
        return -((x - self.centre[...].reshape((1,) * (x.ndim - 1) + (3,))) ** 2)


@pytest.fixture(scope="module", params=[(9, 8), (6, 5)], ids=["whole", "tiled"])
def judged(request):
    config = SegmentedFieldsConfig(crop=request.param, ignored=(7,))
    data = config.of((list(IMAGES), list(MASKS)))
    task = Segment(SegmentConfig()).fitted(data)
    judge = judges.of(task, data)(task, data, make_mesh(), batch_size=8)
    return SimpleNamespace(data=data, judge=judge, judged=judge(Thresholds(), "test"))


def test_scores_are_those_of_scikit_learn_over_the_cells_that_count(judged):
    assert isinstance(judged.judge, SegmentationJudge)
    data, report = judged.data, judged.judge.report(judged.judged)
    rows = data.rows["test"]
    fields = np.stack([data.source("test")[at]["field"] for at in range(len(rows))])
    true, said = MASKS[rows], np.abs(fields - np.array([-1.0, 0.0, 1.0])).argmin(-1)[:, 0]
    real = true != 7
    pair = true[real], said[real]
    np.testing.assert_allclose(
        [report["classes"][name]["dice"] for name in data.classes],
        sklearn.metrics.f1_score(*pair, **EACH),
    )
    np.testing.assert_allclose(
        report["model"]["iou"], sklearn.metrics.jaccard_score(*pair, average="macro")
    )
    assert report["model"]["accuracy"] == sklearn.metrics.accuracy_score(*pair)
    assert report["confusion"] == sklearn.metrics.confusion_matrix(*pair).tolist()
    most = np.bincount(MASKS[data.rows["train"]][MASKS[data.rows["train"]] != 7]).argmax()
    assert report["majority"]["accuracy"] == np.mean(true[real] == most)
    each = [
        sklearn.metrics.f1_score(t[r], s[r], **EACH)
        for t, s, r in zip(true, said, real, strict=True)
    ]
    items = [report["classes"][name]["item_dice"] for name in data.classes]
    np.testing.assert_allclose(items, np.mean(each, axis=0))
    lost: Any = judged.judge.losses(judged.judged)
    np.testing.assert_allclose(lost.of["model"], 1 - np.mean(each, axis=1))
    assert lost.of.keys() == {"model", "majority", "cell"}
    validation = judged.judge.validation(judged.judged)
    assert next(iter(validation)) == "missed_dice"
    assert math.isclose(validation["dice"], 1 - validation["missed_dice"])


def test_the_report_is_a_table_and_a_picture_of_items(judged):
    report = {"test": judged.judge.report(judged.judged)}
    text = "\n".join(judged.judge.markdown(report))
    assert "| majority |" in text
    assert "| cell |" in text
    (figure,) = judged.judge.figures(judged.judged, report).values()
    assert len(figure.axes) == 4 * 4
    shown = judged.judged.shown["items"]
    np.testing.assert_array_equal(shown["true"] < 0, MASKS[judged.data.rows["test"]] == 7)
    handles = figure.legends[0].get_texts()
    assert [text.get_text() for text in handles] == ["0", "1", "2"]


@pytest.mark.slow
def test_tiles_give_what_the_whole_gives_where_no_cell_looks_beyond_them():
    task: Any = Segment(SegmentConfig(), class_counts=(1, 1, 1))
    model = Thresholds()
    field = jnp.asarray(RANDOM.normal(size=(2, 3, 11, 13, 1)), jnp.float32)
    whole = classes_of(task, model, field, field.shape[1:-1])
    for window in [(1, 4, 5), (3, 11, 6), (2, 16, 16)]:
        tiled = jax.jit(lambda x, window=window: classes_of(task, model, x, window))(field)
        np.testing.assert_array_equal(tiled["label"], whole["label"])
        np.testing.assert_allclose(tiled["probability"], whole["probability"], rtol=1e-6)
