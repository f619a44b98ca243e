"""What a run says of data in memory is what it says of their file, in the form that was given."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from small_panel import write_table
from untrained import untrained

from stpatch_jax.data import FieldConfig, FieldPartsConfig, LabelledConfig, PanelConfig
from stpatch_jax.errors import InputError
from stpatch_jax.nn import FlatPatchesConfig, PatchTransformerConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.runs.config import plain
from stpatch_jax.tasks import ForecastConfig, ReconstructConfig

MODEL, TASK = FlatPatchesConfig(WindowSpec((None, 1))), ForecastConfig()


@pytest.fixture(scope="module")
def loads(tmp_path_factory):
    """A table, its file, and a run on it."""
    file = tmp_path_factory.mktemp("loads") / "loads.csv"
    days = pd.date_range("2021-01-01", periods=80, freq="D", name="day")
    values = np.random.default_rng(0).normal(5, 1, (80, 2))
    pd.DataFrame(values, days, ["a", "b"]).to_csv(file)
    table = pd.read_csv(file, index_col="day", parse_dates=True)
    return table, file, untrained(FieldConfig(str(file), context=4, horizon=2), MODEL, TASK)


def test_a_field_comes_back_as_it_was_given(loads):
    table, file, run = loads
    every = 20
    forecasts = run.predict(file, every=every)
    assert forecasts.value.dims == ("init_time", "lead_time", "series")
    assert len(forecasts.init_time) == 4
    dated = {"time": table.index.to_numpy(), "series": ["a", "b"]}
    field = xr.DataArray(table.to_numpy(), dated, dims=("time", "series"), name="value")
    for given in (field, field.to_dataset()):
        xr.testing.assert_identical(run.predict(given, every=every), forecasts)
    rows = run.predict(table, every=every)
    assert list(rows) == ["init_time", "lead_time", "valid_time", "a", "b"]
    np.testing.assert_array_equal(rows[["a", "b"]], forecasts.value.values.reshape(-1, 2))
    # In kelvin or whatever the data are in, near which an untrained network stays.
    assert np.abs(forecasts.value - 5).max() < 10


def test_rules_that_forecasts_are_drawn_to_are_those_of_the_training_rows(loads):
    table, file, _ = loads
    values = table.to_numpy()
    # Of 80 rows 56 are trained on.
    gained = (values[55] - values[0]) / 55
    rules = {
        "drift": values[-1] + np.array([[1], [2]]) * gained,
        "running_mean": np.broadcast_to(values[-4:].mean(axis=0), (2, 2)),
    }
    for rule, expected in rules.items():
        task = ForecastConfig(model_weight=0.0, weighed_against=rule)
        run = untrained(FieldConfig(str(file), context=4, horizon=2), MODEL, task)
        np.testing.assert_allclose(run.predict(file).value[0], expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["f8", ">f8", "i4"])
def test_small_changes_of_large_numbers_are_forecast(dtype):
    values = (10**9 + np.arange(80) % 4).astype(dtype).reshape(80, 1, 1)
    config = FieldConfig(context=4, horizon=2)

    class Given(FieldConfig):
        def load(self):
            return config.of(values)

    task = ForecastConfig(model_weight=0.0, weighed_against="persistence")
    run = untrained(Given(context=4, horizon=2), MODEL, task)
    np.testing.assert_allclose(run.predict(values), 10**9 + 3, rtol=0, atol=1e-3)
    # What float32 holds stays float32.
    assert run.predict(values.astype("f4")).dtype == np.float32


def test_an_array_gives_an_array():
    values = np.random.default_rng(0).normal(5, 1, (80, 2, 1))
    config = FieldConfig(context=4, horizon=3)

    class Given(FieldConfig):
        def load(self):
            return config.of(values)

    run = untrained(Given(context=4, horizon=3), MODEL, TASK)
    one, several = run.predict(values), run.predict(values, every=19)
    assert one.shape == (3, 2, 1)
    assert several.shape == (5, 3, 2, 1)
    np.testing.assert_array_equal(several[-1], one)
    np.testing.assert_array_equal(run.predict(values[40:]), one)
    single = values.astype("f4")
    np.testing.assert_array_equal(run.predict(jnp.asarray(single)), run.predict(single))
    hidden = np.ma.masked_less(single, 4)
    filled = run.predict(hidden.filled(np.nan))
    np.testing.assert_array_equal(run.predict(hidden), filled)
    assert (filled != run.predict(single)).any()


def test_arrays_of_jax_and_with_masks_are_those_of_numpy():
    values = np.random.default_rng(0).normal(5, 1, (80, 20)).astype("f4")
    masked = np.ma.masked_greater(values, 6)
    np.testing.assert_array_equal(plain([jnp.asarray(values), masked])[0], values)
    labels = np.ma.masked_equal(np.arange(80) % 3, 2)
    with pytest.warns(UserWarning, match="26 of 80 items have no label"):
        data = LabelledConfig().of(plain((masked, labels)))
    assert data.classes == ("0", "1")
    hidden = np.ma.getmaskarray(masked)[~np.ma.getmaskarray(labels)].sum()
    assert f"{hidden} missing values" in " ".join(data.report["notes"])
    assert plain(np.ma.masked_equal(np.array(["a", "b"], object), "b")).tolist() == ["a", None]


def test_hidden_patches_of_an_array_come_back_with_all_items():
    values = np.random.default_rng(0).normal(5, 1, (60, 4, 1))
    config = FieldPartsConfig(horizon=4)

    class Given(FieldPartsConfig):
        def load(self):
            return config.of(values)

    task = ReconstructConfig(window=(1, 2))
    model = PatchTransformerConfig(WindowSpec((1, 2)), features=8, depth=1, heads=1)
    run = untrained(Given(horizon=4), model, task)
    found = run.predict(values)
    assert found.field.shape == (15, 4, 4, 1)
    shown = ~found.hidden.values
    np.testing.assert_allclose(found.field[0].values[shown], values[1:5][shown], rtol=1e-5)


def test_prices_come_back_as_rows(tmp_path):
    file = write_table(tmp_path / "prices.csv")
    run = untrained(PanelConfig(str(file), context=8, horizon=2), MODEL, TASK)
    found = run.predict(pd.read_csv(file))
    assert len(found) == run.predict(str(file)).price.lead_time.size == 2
    assert list(found) == ["init_time", "lead_time", "valid_time", "AAA", "BBB", "CCC"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"field": np.zeros((1, 4, 2, 1))}, "a path or data in memory, got dict; give a batch to"),
        (np.zeros((80, 3, 1)), "the ndarray must"),
        (np.zeros((3, 2, 1)), "the ndarray must"),
        (
            pd.DataFrame({"day": ["2021-01-01"], "a": [1.0]}),
            "the DataFrame must have .* of the run",
        ),
        ("nowhere.csv", "nowhere.csv"),
    ],
)
def test_what_does_not_fit_is_one_sentence(loads, given, told):
    with pytest.raises(InputError, match=told):
        loads[2].predict(given)
