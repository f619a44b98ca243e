"""Files like published ones that may not be fetched, made from a seed, so that recipes run.

Each has the form, the names and the units of the published file, and values of the same kind:
cycles, noise, and something that can be learnt. Figures on them say nothing of the published file.
"""

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.ndimage import gaussian_filter

from stpatch_jax.data.fields.writers import fill_table
from stpatch_jax.data.libraries import require_library
from stpatch_jax.files import replaced, usable

_COMPANIES = 20


def folder() -> Path:
    """Where made files are kept: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "stpatch_jax", "made")


def made(name: str, file: str) -> Path:
    """The file made in place of a published one; what was made before is taken as it is.

    Args:
        name: Name of the data set, one of `MAKERS`.
        file: Its path below a folder of data.
    """
    path = folder() / Path(file).name
    with usable(path=path, must_be="writable"):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with replaced(path) as part:
            MAKERS[name](part)
    return path


def _random(seed: int) -> np.random.Generator:
    return np.random.default_rng([20190301, seed])


def _bicycles(path: Path) -> None:
    """Hourly flows in and out of 16 x 8 cells: places, rush hours, weekends, rain, counts."""
    random = _random(0)
    time = np.arange("2014-08-04T23", "2014-10-01T00", dtype="M8[h]")
    hour = np.arange(len(time)) + 23
    weekday = (hour // 24) % 7 < 5
    clock = hour % 24
    rush = np.exp(-((clock[:, None] - np.array([8.5, 18.0])) ** 2) / 4)
    leisure = np.exp(-((clock - 14.0) ** 2) / 18)
    into, out = (np.where(weekday, rush @ w, 1.5 * leisure) for w in ([1.0, 0.6], [0.6, 1.0]))
    daily = 0.1 + np.stack([into, out], axis=-1)
    places = np.exp(gaussian_filter(random.normal(size=(16, 8)), 1.5) * 6)
    rain = np.exp(0.4 * _wandering(random, len(time), 0.95))
    mean = 20 * places[None, :, :, None] * (rain[:, None] * daily)[:, None, None]
    with path.open("wb") as file:
        np.savez_compressed(file, data=random.poisson(mean).astype(np.int16), time=time)


def _wandering(random: np.random.Generator, count: int, kept: float) -> np.ndarray:
    """A stationary process of variance 1, each value `kept` times the one before plus noise."""
    noise = random.normal(size=count) * np.sqrt(1 - kept**2)
    values = np.empty(count)
    last = random.normal()
    for at in range(count):
        last = values[at] = kept * last + noise[at]
    return values


def _temperatures(path: Path) -> None:
    """Hours of 2 m temperature on a map, in K: north, time of day, and weather that drifts east."""
    netcdf = require_library(
        "netCDF4", purpose="making a map of the weather", install="stpatch_jax[netcdf]"
    )
    random = _random(1)
    hours, latitude, longitude = 744, np.arange(58, 49.9, -0.25), np.arange(-10, 2.1, 0.25)
    wide = gaussian_filter(random.normal(size=(len(latitude), len(longitude) + hours)), (5, 9))
    wide *= 4 / wide.std()
    drift = np.lib.stride_tricks.sliding_window_view(wide, len(longitude), axis=1)
    weather = np.moveaxis(drift[:, :hours][:, ::-1], 1, 0)
    clock = (np.arange(hours) % 24)[:, None, None] + longitude / 15
    daily = 3 * np.cos(2 * np.pi * (clock - 15) / 24)
    values = 281 - 0.6 * (latitude - 54)[:, None] + weather + daily
    values += random.normal(size=values.shape) * 0.1
    coords: dict[str, Any] = {
        "time": pd.date_range("2019-03-01", periods=hours, freq="h"),
        "latitude": ("latitude", latitude, {"units": "degrees_north"}),
        "longitude": ("longitude", longitude, {"units": "degrees_east"}),
    }
    dims, units = ("time", "latitude", "longitude"), {"units": "K"}
    field = xr.DataArray(values.astype(np.float32), coords, dims, name="t2m", attrs=units)
    field.to_netcdf(path, engine=netcdf.__name__.lower())


def _heartbeats(path: Path, *, seed: int) -> None:
    """A hundred heartbeats of 96 values: a third of them, class 0, with a low, late wave."""
    random = _random(seed)
    labels = (random.random(100) < 0.67).astype(int)
    time = np.arange(96)
    rows = []
    for label in labels:
        late = random.normal([60, 70][1 - label], 3)
        waves = [(random.normal(12, 2), 3, 3.0), (late, 9, [0.6, 1.6][label]), (30, 6, -0.8)]
        beat = sum(height * np.exp(-(((time - at) / width) ** 2)) for at, width, height in waves)
        beat = beat + 0.15 * gaussian_filter(random.normal(size=96), 1.0)
        rows.append([label, *(beat - beat.mean()) / beat.std()])
    lines = ("\t".join([str(int(row[0])), *(f"{x:.8f}" for x in row[1:])]) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _returns(days: int) -> np.ndarray:
    """Daily log returns [day, company] with common moves, and spells of high and low variance."""
    random = _random(4)
    scale = 0.01 * np.exp(0.5 * _wandering(random, days, 0.97))[:, None]
    common = random.normal(size=(days, 1))
    # Of the last day's move a little goes on, which may be learnt.
    common[1:] += 0.15 * common[:-1]
    return 0.0003 + scale * (0.6 * common + 1.2 * random.standard_t(6, size=(days, _COMPANIES)))


def _prices(path: Path) -> None:
    """A long table of daily prices: open, high, low, close, adjusted close and volume."""
    days = pd.bdate_range("2012-09-04", "2017-09-01")
    random, returns = _random(5), _returns(len(days))
    close = 50 * np.exp(returns.cumsum(axis=0))
    opening = close * np.exp(-returns + 0.3 * returns * random.random(returns.shape))
    spread = np.abs(returns) * random.random(returns.shape) + 0.002
    table = {
        "Date": np.repeat(days.strftime("%Y-%m-%d"), _COMPANIES),
        "ticker": np.tile([f"MADE{at:02}" for at in range(_COMPANIES)], len(days)),
        "Open": opening.round(4),
        "High": (np.maximum(opening, close) * (1 + spread)).round(4),
        "Low": (np.minimum(opening, close) * (1 - spread)).round(4),
        "Close": close.round(4),
        "Adj Close": close.round(4),
        "Volume": random.integers(10**5, 10**7, close.shape),
    }
    fill_table(path, pd.DataFrame({name: np.ravel(column) for name, column in table.items()}))


def _movements(path: Path) -> None:
    """Features of the last days of each stock, and whether it rises by 0.55 % or falls by 0.5 %."""
    dates = pd.bdate_range("2013-06-03", "2015-12-31").to_numpy().astype("M8[D]")
    returns = _returns(len(dates) + 30)
    level = np.exp(returns.cumsum(axis=0))
    means = [
        np.asarray(pd.DataFrame(level).rolling(span).mean()) for span in (5, 10, 15, 20, 25, 30)
    ]
    moves = [np.expm1(returns), *([np.abs(returns)] * 4)]
    features = 100 * np.stack([*moves, *(mean / level - 1 for mean in means)], axis=-1)
    label = np.where(returns >= 0.0055, 1, np.where(returns <= -0.005, -1, 0))
    arrays = {
        "features": features[30:].swapaxes(0, 1).astype(np.float32),
        "label": label[30:].T.astype(np.float32),
        "close": (50 * level[30:].T).astype(np.float32),
        "dates": dates,
        "tickers": np.array([f"MADE{at:02}" for at in range(_COMPANIES)]),
    }
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


MAKERS: Mapping[str, Callable[[Path], None]] = {
    "bikenyc": _bicycles,
    "era5_uk": _temperatures,
    "ecg200_train": functools.partial(_heartbeats, seed=2),
    "ecg200_test": functools.partial(_heartbeats, seed=3),
    "stocks": _prices,
    "acl18": _movements,
}
"""What writes the file made in place of a data set of the catalog, by its name."""
