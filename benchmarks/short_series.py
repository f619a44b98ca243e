"""Classifiers of short series on small training sets: the recipe `classify` beside the ROCKETs.

    python -m benchmarks.short_series --protocol
    python -m benchmarks.short_series [--results FOLDER]

The sets are the univariate ones of equal length that aeon ships. Of each training file half the
series of each class are drawn, three times; all fit the same ones and are tested on the whole test
file. `--protocol` writes the results file with what will be run and without figures. Needs aeon
beside this package.
"""

import argparse
import importlib
import importlib.metadata
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scores import interval
from benchmarks.timing import RESULTS, device, versions
from stpatch_jax.recipes import train

SETS = ("ArrowHead", "ItalyPowerDemand", "GunPoint", "ACSF1", "OSULeaf")
RESAMPLINGS = 3
OURS = "ours"
PEERS = ("RocketClassifier", "MiniRocketClassifier")
PROTOCOL = {
    "sets": SETS,
    "train": "half of the series of each class of the training file, rounded up, without "
    "replacement, by numpy's default_rng([resampling, set])",
    "test": "the test file",
    "resamplings": RESAMPLINGS,
    OURS: "the recipe classify on both files, nothing else told",
    "peers": "aeon's classifiers with their defaults, random_state the resampling",
    "interval": "95 %, of sets drawn with replacement",
}
Series = tuple[np.ndarray, np.ndarray]


def loaded(name: str) -> dict[str, Series]:
    """Series [item, time] and numbers of classes [item] of both files of a set."""
    datasets: Any = importlib.import_module("aeon.datasets")
    found = {}
    for split in ("train", "test"):
        x, y = datasets.load_classification(name, split=split)[:2]
        found[split] = x[:, 0], np.asarray(y)
    classes = np.unique(found["train"][1])
    return {split: (x, np.searchsorted(classes, y)) for split, (x, y) in found.items()}


def drawn(labels: np.ndarray, seed: list[int]) -> np.ndarray:
    """Half of the items of each class of `labels` [item], rounded up, in their order.

    >>> drawn(np.array([0, 0, 0, 1, 1]), [0, 0]).size
    3
    """
    random = np.random.default_rng(seed)
    of_class = (np.flatnonzero(labels == name) for name in np.unique(labels))
    return np.sort(np.concatenate([random.permutation(of)[: -(-len(of) // 2)] for of in of_class]))


def of_recipe(train_series: Series, test_series: Series) -> dict[str, Any]:
    """Accuracies of the recipe and of its nearest neighbour on the test series, and its choice."""
    with tempfile.TemporaryDirectory() as folder:
        for name, (x, y) in {"TRAIN": train_series, "TEST": test_series}.items():
            np.savetxt(Path(folder) / f"Set_{name}.tsv", np.column_stack([y, x]), delimiter="\t")
        run = train("classify", path=str(Path(folder) / "Set_TRAIN.tsv"), progress=False)
        found = run.metrics
    return {
        "accuracy": found["test"]["model"]["accuracy"],
        "nearest_neighbor": found["test"]["nearest_neighbor"]["accuracy"],
        "chosen": found["chosen"]["model"],
    }


def of_peer(name: str, train_series: Series, test_series: Series, seed: int) -> dict[str, Any]:
    """The accuracy of one of aeon's classifiers."""
    convolution_based: Any = importlib.import_module("aeon.classification.convolution_based")
    classifier = getattr(convolution_based, name)(random_state=seed)
    classifier.fit(train_series[0][:, None], train_series[1])
    said = classifier.predict(test_series[0][:, None])
    return {"accuracy": float(np.mean(said == test_series[1]))}


def timed(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a call finds, with its seconds."""
    start = time.perf_counter()
    return {**call(), "seconds": time.perf_counter() - start}


def rows_of(at: int, name: str, resampling: int) -> dict[str, Any]:
    """All classifiers on one resampling of a set."""
    series = loaded(name)
    x, y = series["train"]
    chosen = drawn(y, [resampling, at])
    few, test = (x[chosen], y[chosen]), series["test"]
    row: dict[str, Any] = {"set": name, "resampling": resampling, "examples": len(chosen)}
    row[OURS] = timed(lambda: of_recipe(few, test))
    for peer in PEERS:
        row[peer] = timed(lambda peer=peer: of_peer(peer, few, test, resampling))
    return row


def differences(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of ours less each peer's accuracy, and its interval."""
    groups = np.array([row["set"] for row in rows])
    found = {}
    for peer in PEERS:
        less = np.array([row[OURS]["accuracy"] - row[peer]["accuracy"] for row in rows])
        spread = interval(lambda chosen, less=less: float(less[chosen].mean()), groups)
        found[peer] = {"mean": float(less.mean()), "interval": spread}
    return found


def main() -> None:
    """Measures what the results file lacks, one resampling after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", action="store_true", help="write what will be run, and end")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    path = given.results / "short_series.json"
    protocol = json.loads(json.dumps(PROTOCOL))
    if given.protocol:
        _write(path, {"protocol": protocol, "rows": []})
        return
    results = json.loads(path.read_text(encoding="utf-8"))
    if results["protocol"] != protocol:
        sys.exit(f"the protocol in {path} must be that of this file; run it with --protocol")
    results |= {
        "device": device(),
        "versions": {**versions(), "aeon": importlib.metadata.version("aeon")},
    }
    # Numba tells aeon's users of what it compiles.
    warnings.filterwarnings("ignore", module="numba|aeon")
    there = {(row["set"], row["resampling"]) for row in results["rows"]}
    for resampling in range(RESAMPLINGS):
        for at, name in enumerate(SETS):
            if (name, resampling) not in there:
                row = rows_of(at, name, resampling)
                print(name, resampling, *(f"{row[of]['accuracy']:.4f}" for of in (OURS, *PEERS)))
                results["rows"].append(row)
                results["difference"] = differences(results["rows"])
                _write(path, results)


def _write(path: Path, results: dict[str, Any]) -> None:
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
