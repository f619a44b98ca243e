"""`stpatch explain`: a forecast and a classification explained from their run directories."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.image import imread

from stpatch_jax import cli
from stpatch_jax.data import CharactersConfig, FieldConfig, LabelledSeriesConfig
from stpatch_jax.nn import (
    FlatPatchesConfig,
    NeighborhoodConfig,
    PatchCNNConfig,
    PatchTransformerConfig,
    TokenEmbeddingConfig,
)
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.recipes.sentiment.data import LabelledTextConfig
from stpatch_jax.recipes.video.data import ClipObjectsConfig
from stpatch_jax.runs.run import RunConfig, train
from stpatch_jax.tasks import (
    ClassifyConfig,
    DetectConfig,
    ForecastConfig,
    NextTokenConfig,
    ReconstructConfig,
)
from stpatch_jax.training import OptimizerConfig, TrainConfig

TRAIN = TrainConfig(steps=30, batch_size=8, optimizer=OptimizerConfig(learning_rate=0.01))
FILES = {f"explanation{end}" for end in (".html", ".md", ".nc", ".png", "_scores.png")}


def explained(folder, *flags):
    assert cli.main(["explain", str(folder), *flags]) == 0
    assert {path.name for path in folder.iterdir()} >= FILES
    for name in ("explanation.png", "explanation_scores.png"):
        assert imread(folder / name)[..., :3].std() > 0.02
    with xr.open_dataset(folder / "explanation.nc") as found:
        return found.load(), (folder / "explanation.md").read_text()


@pytest.mark.slow
def test_a_classification_is_explained_by_the_part_that_decides(tmp_path):
    random = np.random.default_rng(0)
    for name, count in {"TRAIN": 24, "TEST": 9}.items():
        labels = np.arange(count) % 2
        values = random.normal(size=(count, 16))
        values[:, 4:8] += 4 * labels[:, None]
        rows = [[label, *row] for label, row in zip(labels.tolist(), values.tolist(), strict=True)]
        text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
        (tmp_path / f"Bump_{name}.tsv").write_text(text)
    config = RunConfig(
        recipe="bump",
        data=LabelledSeriesConfig(path=str(tmp_path / "Bump_TRAIN.tsv")),
        model=FlatPatchesConfig(WindowSpec((None,))),
        task=ClassifyConfig(hidden=(8,)),
        train=dataclasses.replace(TRAIN, steps=150),
    )
    train(config, workdir=tmp_path / "run", progress=False)
    report = json.loads((tmp_path / "run/report.json").read_text())
    # 16 values, 8 hidden, 2 classes: forward, back to the weights, back to what was hidden.
    forward = 2 * (16 * 8 + 8 * 2)
    assert report["flops_per_example"] == 2 * forward + 2 * 8 * 2
    assert report["patches"] == 1
    found, told = explained(tmp_path / "run", "--example", "1", "--window", "2")
    assert "truly 1" in told
    assert found.sizes["time"] == 16
    for name in ("occlusion", "integrated_gradients"):
        values = abs(found[name]).sum([d for d in found[name].dims if d != "time"])
        assert float(values[4:8].mean()) > 2 * float(values.drop_isel(time=[4, 5, 6, 7]).mean())
    gain = found.integrated_gradients.attrs["score_gain"]
    assert float(found.integrated_gradients.sum()) == pytest.approx(gain, rel=0.05, abs=0.05)
    other, _ = explained(
        tmp_path / "run", "--example", "1", "--target", "0", "--method", "occlusion"
    )
    assert "smooth_grad" not in other
    assert cli.main(["explain", str(tmp_path / "run"), "--method", "attention_rollout"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["transformer", "operator"])
def test_a_forecast_of_a_map_is_explained_on_its_grid(backbone, tmp_path, capsys):
    hours = pd.date_range("2024-01-01", periods=120, freq="h")
    values = np.random.default_rng(0).normal(280, 2, (120, 4, 6)).astype(np.float32)
    coords = {"time": hours, "latitude": np.arange(4.0), "longitude": np.arange(6.0)}
    xr.DataArray(values, coords, dims=tuple(coords), attrs={"units": "K"}, name="t2m").to_netcdf(
        tmp_path / "map.nc"
    )
    models = {
        "transformer": PatchTransformerConfig(
            WindowSpec((2, 2, 3)), features=12, depth=1, heads=2, mlp_ratio=1.0
        ),
        "operator": NeighborhoodConfig.forward(2, axes=(1,)),
    }
    config = RunConfig(
        recipe="map",
        data=FieldConfig(path=str(tmp_path / "map.nc"), context=6, horizon=2, calendar=("hour",)),
        model=models[backbone],
        task=ForecastConfig(),
        train=TRAIN,
    )
    train(config, workdir=tmp_path / "run", progress=False)
    some = [] if backbone == "transformer" else ["--method", "occlusion", "integrated_gradients"]
    found, told = explained(tmp_path / "run", "--lead", "1", *some)
    assert "forecast of t2m at lead 1, 2024-01-05T22:00" in told
    np.testing.assert_array_equal(found.time, hours[-8:-2])
    np.testing.assert_array_equal(found.latitude, coords["latitude"])
    assert found.input.dims == ("time", "latitude", "longitude", "channel")
    assert found.channel.values.tolist() == ["t2m", "hour_sin", "hour_cos"]
    assert found.occlusion.attrs["units"] == "scaled units"
    assert found.channel_importance.dims == ("repeat", "channel")
    if backbone == "transformer":
        assert float(found.attention_rollout.min()) > 0
    else:
        assert found.neighborhood_weights.sizes == {"lag": 4, "neighbor": 2, "channel": 3}
        # The middle cell (2, 3) is forecast from itself, its neighbour and the last four hours.
        used = np.argwhere(found.integrated_gradients.values.any(-1))
        assert {tuple(cell) for cell in used[:, 1:]} <= {(2, 3), (2, 4)}
        assert used[:, 0].min() >= 2
    for flags, words in {
        ("--lead", "3"): "lead must be a lead time from 1 to 2",
        ("--example", "99"): "example must be one of the",
        ("--target", "rain"): "target must be 't2m', got 'rain'",
        ("--split", "all"): "split must be",
    }.items():
        assert cli.main(["explain", str(tmp_path / "run"), *flags]) == 2
        assert words in capsys.readouterr().err


def texts(folder):
    for name, word in (("pos", "good"), ("neg", "bad")):
        lines = (f"this film number {number} is {word} .\n" for number in range(40))
        (folder / f"x.{name}").write_text("".join(lines))
    return str(folder / "x.pos")


@pytest.mark.slow
def test_a_class_of_a_text_is_explained_by_its_words(tmp_path):
    config = RunConfig(
        recipe="text",
        data=LabelledTextConfig(path=texts(tmp_path), length=8, longest_window=2),
        model=FlatPatchesConfig(WindowSpec((1,))),
        task=ClassifyConfig(hidden=(4,), reduce="mean"),
        train=TRAIN,
    )
    train(config, workdir=tmp_path / "run", progress=False)
    found, told = explained(tmp_path / "run", "--example", "0", "--method", "occlusion")
    words = found.word.values.tolist()
    assert words[-1] == ""
    counts = dict(zip(words, found.occlusion.values.tolist(), strict=True))
    # The window "good ." decides as well, at the word that it ends with.
    assert max(counts, key=lambda word: abs(counts[word])) in ("good", "bad", ".")
    assert found.channel.values.tolist() == ["1 word", "2 words"]
    assert ", word " in told


@pytest.mark.slow
def test_a_character_is_explained_by_those_before_it(tmp_path, capsys):
    body = PatchCNNConfig(WindowSpec((1,)), features=(16,))
    config = RunConfig(
        recipe="language",
        data=CharactersConfig(
            path=texts(tmp_path), window=32, context=8, validation_share=0.2, test_share=0.2
        ),
        model=TokenEmbeddingConfig(body, vocabulary=256, features=8, longest_window=3),
        task=NextTokenConfig(),
        train=dataclasses.replace(TRAIN, steps=6),
    )
    train(config, workdir=tmp_path / "run", progress=False)
    found, told = explained(tmp_path / "run", "--example", "1", "--lead", "20")
    assert set(found.data_vars) == {"input", "occlusion"}
    used = np.flatnonzero(found.occlusion.values)
    assert used.size
    assert used.min() >= 17
    assert used.max() <= 19
    assert "token 0 in place of every input" in told
    assert cli.main(["explain", str(tmp_path / "run"), "--method", "smooth_grad"]) == 2
    assert (
        "smooth_grad must have an input that can change a little, got whole numbers"
        in capsys.readouterr().err
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["object", "patch"])
def test_objects_and_hidden_patches_are_explained_on_their_frames(kind, tmp_path, capsys):
    task = DetectConfig() if kind == "object" else ReconstructConfig((1, 4, 4), 0.5)
    config = RunConfig(
        recipe=kind,
        data=ClipObjectsConfig(
            canvas=16, digit=8, frames=3, train_clips=40, validation_clips=8, test_clips=8
        ),
        model=PatchCNNConfig(WindowSpec((3, 8, 8)), features=(8,)),
        task=task,
        train=dataclasses.replace(TRAIN, steps=6),
    )
    train(config, workdir=tmp_path / "run", progress=False)
    some = ["--method", "occlusion", "integrated_gradients"]
    found, told = explained(tmp_path / "run", "--example", "3", *some)
    assert found.occlusion.dims == ("time", "height", "width")
    assert found.input.attrs["units"] == "0 to 1"
    assert "black in place of every input" in told
    gain = found.integrated_gradients.attrs["score_gain"]
    assert float(found.integrated_gradients.sum()) == pytest.approx(gain, rel=0.05, abs=0.01)
    if kind == "object":
        assert " in frame " in told
        return
    assert int(found.input.isnull().sum()) == 3 * 16 * 16 // 2
    hidden = found.occlusion.values[found.input.isnull().values[..., 0]]
    assert np.isnan(hidden).all()
    assert cli.main(["explain", str(tmp_path / "run"), "--method", "attention_rollout"]) == 2
    assert (
        "must have a model that is shown its whole input, got one with hidden parts"
        in capsys.readouterr().err
    )
