"""Writes the tables of the results files into README and pages, or checks that they are there.

    python -m benchmarks.tables [--check]

Every block of a page from `<!-- table: QUESTION -->` to `<!-- end -->` holds, per device, the
table of `benchmarks/results/QUESTION-DEVICE.json`; those of `published`, `compiled` and `ONE`,
whose figures do not depend on the device, come from one file each. The README has a few rows of
each: `speed` and `best`.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.device import table as of_device
from benchmarks.experiments import HIGHER_IS_BETTER
from benchmarks.timing import RESULTS

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/benchmarks.md", "docs/results.md")
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
Results = Mapping[str, Any]
# The columns of each table: what is measured, in which dtype, by which function, under which name.
COLUMNS = {
    "extract_patches": (
        ("forward", "auto", "ours"),
        ("forward", "raw lax", "lax op"),
        ("forward", "dm_pix", "dm_pix"),
        ("forward", "keras", "Keras"),
        ("forward", "numpy", "NumPy"),
        ("forward", "torch", "torch"),
        ("forward", "kornia", "kornia"),
        ("forward", "copy", "copy"),
        ("gradient", "auto", "gradient: ours"),
        ("gradient", "raw lax", "lax op"),
        ("gradient", "torch", "torch"),
    ),
    "fold_patches": (
        ("fold", "sum", "ours, sum"),
        ("fold", "mean", "mean"),
        ("fold", "hann mean", "Hann mean"),
        ("fold", "lax gradient", "lax op's gradient"),
        ("fold", "conv_transpose", "conv_transpose"),
        ("fold", "keras", "Keras"),
        ("fold", "torch", "torch"),
        ("fold", "torch, our order", "torch, our order"),
        ("fold", "copy", "copy"),
    ),
}
QUESTIONS = (
    *COLUMNS,
    "compiled",
    "backbones",
    "window_study",
    "train_step",
    "sliding_window",
    "segmentation",
    "device",
    "published",
    "walk_forward",
    "short_series",
    "linear",
    "series",
    "series_of_r",
    "maps",
    "speed",
    "best",
)
# What the README shows of the published protocols: (recipe, horizon, metric).
BEST = (
    ("customers", 39, "rmse"),
    ("etth1", 336, "mse"),
    ("exchange", 720, "mse"),
    ("heartbeat", None, "accuracy"),
    ("scan", None, "auc"),
    ("sentiment", None, "accuracy"),
    ("stock-movement", None, "mcc"),
    ("stocks", 6, "mae"),
    ("traffic", 1, "rmse_scaled"),
    ("weather", "6-24", "rmse"),
)
DTYPE = "float32"
PEERS = {
    "seasonal_naive": "seasonal naive",
    "theta": "Theta",
    "damped_anomalies": "damped anomalies",
}


def table(question: str, results: Results) -> str:
    """The Markdown of one results file."""
    if question == "backbones":
        return _backbones(results)
    if question == "window_study":
        return _window_study(results)
    if question == "train_step":
        return _train_step(results)
    if question == "sliding_window":
        return _sliding_window(results)
    if question == "segmentation":
        return _segmentation(results)
    if question == "device":
        return "\n".join([_caption(results, "median times"), *of_device.lines_of(results)])
    return _operators(question, results)


def _backbones(results: Results) -> str:
    """Times, rates and sizes per network, then the ratios to the twins in PyTorch."""
    names = ["network", "batch of fields", "parameters", "forward [ms]", "step [ms]", "samples/s"]
    names += ["GFLOP/s", "of peak", "memory [MB]", "torch: forward [ms]", "step [ms]"]
    lines = [_caption(results), "", _row(names), "|---|---|" + "---:|" * (len(names) - 2)]
    for name, answer in results["networks"].get(DTYPE, {}).items():
        kinds = ("forward", "step", "torch forward", "torch step")
        times = [_short(answer["ms"][k]["ms"]) if k in answer["ms"] else "" for k in kinds]
        rates = [
            f"{answer['samples_per_s']:,.0f}",
            f"{answer['flop_per_s'] / 1e9:,.1f}",
            f"{100 * answer['share_of_peak']:.0f} %",
            f"{answer['memory_bytes'] / 1e6:,.0f}",
        ]
        sizes = [_extent(results["cases"][name]["shape"]), f"{answer['parameters']:,}"]
        lines.append(_row([f"`{name}`", *sizes, *times[:2], *rates, *times[2:]]))
    lines += ["", "Times of the twins in PyTorch / ours:", ""]
    for dtype, networks in results["summary"].items():
        lines += [
            f"- {dtype}, `{name}`: forward {ratio['forward']:.2f}, step {ratio['step']:.2f}"
            for name, ratio in networks.items()
        ]
    return "\n".join(lines)


def _window_study(results: Results) -> str:
    """One table a problem, a row for each choice of windows."""
    lines = [_caption(results)]
    for study, answers in results["studies"].items():
        names = [study, "window", "stride", "dilation", "tokens", "parameters", "MFLOP"]
        names += ["step [ms]", results["units"][study]]
        lines += ["", _row(names), "|---|---|---|---|" + "---:|" * (len(names) - 4)]
        for label, answer in answers.items():
            window, stride = answer["window"], answer["stride"]
            stride = [w if s is None else s for w, s in zip(window, stride, strict=True)]
            extents = [_extent(sizes) for sizes in (window, stride, answer["dilation"])]
            spread = "" if answer["std"] is None else f" ± {answer['std']:.2g}"
            sizes = [str(answer["tokens"]), f"{answer['parameters']:,}"]
            cost = [_short(answer["flops"] / 1e6), _short(answer["ms"])]
            lines.append(_row([label, *extents, *sizes, *cost, f"{answer['error']:.3g}{spread}"]))
        naive = next(iter(answers.values()))["naive"]
        lines += ["", f"- {study}: the naive rule has {naive:.3g}."]
    return "\n".join(lines)


def _train_step(results: Results) -> str:
    """Loop and saves per network, the step on more virtual devices, and its collectives."""
    names = ["network", "batch of fields", "state [MB]", "step alone [ms]", "in the loop [ms]"]
    names += ["loop costs", "a save blocks [ms]", "in steps", "committed after [ms]"]
    lines = [_caption(results), "", _row(names), "|---|---|" + "---:|" * (len(names) - 2)]
    for name, answer in results["networks"].items():
        times = [_short(answer["ms"][kind]["ms"]) for kind in ("bare", "loop", "save", "commit")]
        size = f"{answer['state_bytes'] / 1e6:.3g}"
        cells = [f"`{name}`", _extent(results["cases"][name]["shape"]), size, *times[:2]]
        cells += [f"{100 * answer['overhead']:.1f} %", times[2]]
        cells += [f"{answer['save_in_steps']:.2g}", times[3]]
        lines.append(_row(cells))
    names = ["virtual devices", "batch", "step [ms]", "examples/s"]
    lines += ["", _row(names), "|" + "---:|" * len(names)]
    for step in results["weak_scaling"]:
        rate = 1e3 * step["batch"] / step["ms"]
        sizes = [str(step["devices"]), str(step["batch"])]
        lines.append(_row([*sizes, _short(step["ms"]), _short(rate)]))
    calls = results["dispatch"]
    times = ", ".join(f"`{name}` {_short(ms)}" for name, ms in calls["ms"].items())
    lines += ["", f"- the host's part of one call with {calls['arrays']} arrays [ms]: {times}"]
    lines += ["", "Collectives of one compiled step:", ""]
    for program in results["collectives"]:
        parts = [
            f"{entry['count']} {kind} of {_short(entry['bytes'] / 1e6)} MB in all"
            for kind, entry in sorted(program["collectives"].items())
        ]
        size = _short(4e-6 * program["parameters"])
        title = f"`{program['network']}`, {size} MB of weights, fsdp = {program['fsdp']}"
        lines.append(f"- {title} of {program['devices']} devices: {', '.join(parts)}")
    return "\n".join(lines)


def _segmentation(results: Results) -> str:
    """Scores by case and network, at the better of its rates."""
    caption = _caption(results).replace("median times", f"{results['seconds']:g} s of CPU time")
    names = ["case", "network", "rate", "Dice", "IoU", "steps", "parameters"]
    lines = [caption, "", _row(names), "|---|---|" + "---:|" * 5]
    for case, networks in results["cases"].items():
        for name, rates in networks.items():
            rate = max(rates, key=lambda rate: rates[rate]["dice"])
            of = rates[rate]
            cells = [rate, f"{of['dice']:.3f}", f"{of['iou']:.3f}", f"{of['steps']:.0f}"]
            lines.append(_row([case, name, *cells, f"{of['seeds'][0]['parameters']:,}"]))
    return "\n".join(lines)


def _sliding_window(results: Results) -> str:
    """Whole runs per blend, their copies and memory, then the ratios to ours."""
    columns = ("ours", "ours, convolve", "monai", "torchio")
    names = ["volume, window", "blend"]
    names += [name if at else f"{name} [ms]" for at, name in enumerate(columns)]
    names += [f"copy: {name}" if not at else name for at, name in enumerate(columns) if at != 1]
    names += [
        f"growth: {name}" if at else f"growth [MB]: {name}" for at, name in enumerate(columns)
    ]
    lines = [_caption(results), "", _row(names), "|---|---|" + "---:|" * (len(names) - 2)]
    for blend, answer in results["volumes"].items():
        case, times = results["cases"][blend], answer["ms"]
        copies = [f"{name}, copy" for name in columns if name != "ours, convolve"]
        cells = [_short(times[name]["ms"]) if name in times else "" for name in (*columns, *copies)]
        growth = answer.get("growth_bytes", {})
        cells += [_short(growth[name] / 1e6) if name in growth else "" for name in columns]
        size = _extent((case["cells"],) * 3) + ", " + _extent((case["window"],) * 3)
        lines.append(_row([size, blend, *cells]))
    for blend, answer in results["volumes"].items():
        ratio = results["summary"][blend]
        peers = [f"{name} {ratio[name]:.2f}" for name in columns[1:] if name in ratio]
        share = f"cutting and putting together is {100 * answer['share_of_copy']:.1f} % of our run"
        lines += ["", f"- {blend}: {share}; time / ours: {', '.join(peers)}"]
    if file := results.get("file"):
        lines += [
            "",
            f"- a field of {file['gigabytes']:g} GB on disk: {file['seconds']:.0f} s in a process "
            f"of at most {file['peak_bytes'] / 1e9:.2f} GB",
        ]
    return "\n".join(lines)


def _operators(question: str, results: Results) -> str:
    """Times in ms, then the ratios to ours."""
    columns = [
        column
        for column in COLUMNS[question]
        if any(_time(results, column, case) for case in results["cases"])
    ]
    names = [f"{name} [ms]" if not place else name for place, (_, _, name) in enumerate(columns)]
    lines = [_caption(results), "", _row(["case", "field", "window / stride", *names])]
    lines.append("|---|---|---|" + "---:|" * len(columns))
    for case, sizes in results["cases"].items():
        window, stride = _extent(sizes["window"]), _extent(sizes["stride"])
        times = [_time(results, column, case) or "" for column in columns]
        lines.append(_row([case, _extent(sizes["shape"]), f"{window} / {stride}", *times]))
    return "\n".join([*lines, "", *_ratios(question, results), *_left_out(question, results)])


def _caption(results: Results, what: str = f"{DTYPE}, median times") -> str:
    device, versions = results["device"], results["versions"]
    cores = f"{device['cores']} cores" if device["platform"] == "cpu" else device["platform"]
    libraries = ", ".join(
        f"{name} {versions[name]}"
        for name in ("jax", "numpy", "torch", "keras", "dm_pix", "kornia")
        if name in versions
    )
    note = f" ({results['note']})" if results["note"] else ""
    return f"{device['kind']}, {cores}{note}; {libraries}; {what}:"


def _compiled(results: Results) -> str:
    """A table a chip: how many times the ideal each program moves, and in how many kernels."""
    told = results["versions"]
    libraries = ", ".join(
        f"{name} {told[name]}" for name in ("jax", "libtpu", "jax-cuda13-pjrt") if name in told
    )
    lines = [f"Compiled, not run; {libraries}; {DTYPE}, bytes moved / ideal (kernels):"]
    for chip, dtypes in results["chips"].items():
        cases = dtypes[DTYPE]
        names = [*next(iter(cases.values()))]
        lines += ["", _row([f"on {chip}", *names]), "|---|" + "---:|" * len(names)]
        for case, programs in cases.items():
            cells = [
                f"{of['times_ideal']:.1f} ({of['kernels']})" if "ideal" in of else "refused"
                for of in programs.values()
            ]
            lines.append(_row([case, *cells]))
        ours = {
            f"{name}, `{case}`": of
            for case, programs in cases.items()
            for name, of in programs.items()
            if "ideal" in of and name not in ("lax op", "convolution")
        }
        longest = max(ours, key=lambda name: ours[name]["compile_s"])
        seconds = ours[longest]["compile_s"]
        lines += ["", f"- {chip}: ours compile in at most {seconds:.1f} s of a core ({longest})"]
    return "\n".join(lines)


def _published(rows: Sequence[Results]) -> str:
    """Every row of the published protocols: ours, the naive rules and what others reached."""
    names = ["recipe", "data", "horizon", "metric", "ours", "95 % interval", "seeds"]
    names += ["naive", "published", "test opened"]
    lines = [_row(names), "|---|---|---|---|---:|---|---:|---|---:|---:|"]
    order = sorted(rows, key=lambda row: (row["recipe"], row["dataset"]))
    for row in order:
        if row["metric"].endswith("_drop_last"):
            continue
        spread = "" if row["std"] is None else f" ± {row['std']:.2g}"
        low, high = row["interval"]
        naive = ", ".join(f"{name} {value:.3f}" for name, value in row["naive"].items() if value)
        published = "" if row["published"] is None else f"{row['published']:.3f}"
        cells = [f"`{row['recipe']}`", row["dataset"], str(row["horizon"] or ""), row["metric"]]
        cells += [f"{row['value']:.4f}{spread}", f"{low:.3f} to {high:.3f}", str(row["seeds"])]
        lines.append(_row([*cells, naive, published, str(row["test_openings"])]))
    authors = {row["recipe"]: row["published_by"] for row in order if row["published_by"]}
    return "\n".join([*lines, "", *(f"- `{name}`: {who}" for name, who in authors.items())])


def _walk_forward(rows: Sequence[Results]) -> str:
    """Every row of a walk: ours, the rules, and whether ours is surely ahead of the best."""
    names = ["recipe", "data", "horizon", "metric", "walk", "ours", "rules", "best rule"]
    names += ["ahead of it by", "ahead?", "seeds", "test opened"]
    lines = [_row(names), "|---|---|---:|---|---|---|---|---|---|---|---:|---:|"]

    def cell(of: Results) -> str:
        low, high = of["interval"]
        return f"{of['value']:.4g} ({low:.3g} to {high:.3g})"

    for row in sorted(rows, key=lambda row: (row["recipe"], row["dataset"], row["horizon"] or 0)):
        ahead = row["ahead"]
        low, high = ahead["interval"]
        sure = "yes" if low > 0 else "no, behind" if high < 0 else "not sure"
        span = f"{row['folds']} spans, {row['first'][:10]} to {row['last'][:10]}"
        cells = [f"`{row['recipe']}`", row["dataset"], str(row["horizon"] or ""), row["metric"]]
        cells += [span, cell(row)]
        cells.append(", ".join(f"{name} {cell(of)}" for name, of in row["rules"].items()))
        cells += [ahead["of"], cell(ahead), sure, str(row["seeds"]), str(row["test_openings"])]
        lines.append(_row(cells))
    return "\n".join(lines)


def _short_series(results: Results) -> str:
    """Mean accuracies by set, and what ours are above each peer's."""
    rows, peers = results["rows"], list(results["difference"])
    names = ["set", "series", "ours", *peers, "nearest neighbour"]
    lines = [_row(names), "|---|---:|" + "---:|" * (len(names) - 2)]

    def mean(of: str, name: str | None, value: str = "accuracy") -> str:
        chosen = [row[of][value] for row in rows if name in (None, row["set"])]
        return f"{sum(chosen) / len(chosen):.3f}"

    counts = {row["set"]: str(row["examples"]) for row in rows}
    for name, count in [*counts.items(), (None, "")]:
        cells = [mean(of, name) for of in ("ours", *peers)]
        neighbor = mean("ours", name, "nearest_neighbor")
        lines.append(_row([name or "mean", count, *cells, neighbor]))
    seconds = [f"{float(mean(of, None, 'seconds')):.0f}" for of in ("ours", *peers)]
    lines += [_row(["seconds", "", *seconds, ""]), ""]
    for peer, of in results["difference"].items():
        low, high = (f"{100 * end:.1f}" for end in of["interval"])
        told = f"{100 * of['mean']:+.1f} points of accuracy ({low} to {high})"
        lines.append(f"- beside {peer}: {told}")
    return "\n".join(lines)


def _linear(results: Results) -> str:
    """Recipes beside their linear forms, on both splits, and what both cost."""
    names = ["recipe", "metric", "validation", "linear", "test", "linear", "ahead on test"]
    names += ["arithmetic / linear", "CPU time / linear"]
    lines = [_row(names), "|---|---|" + "---:|" * (len(names) - 2)]
    for row in results["rows"]:
        cells = [f"`{row['recipe']}`", row["metric"]]
        for split in ("validation", "test"):
            cells += [_short(row[split][form]) for form in ("network", "linear")]
        cells.append(" to ".join(map(_short, row["test"]["gain"])))
        cost = row["cost"]
        for name in ("flops_per_example", "cpu_seconds"):
            cells.append(_short(cost["network"][name] / cost["linear"][name]))
        lines.append(_row(cells))
    return "\n".join(lines)


def _series(results: Results) -> str:
    """Every set of the frozen list that was scored: ours, the rules' best, and the peers."""
    rows = {row["dataset"]: row for row in results["rows"]}
    peers = [*next(iter(rows.values()))["peers"]]
    names = ["set", "rows x series", "step", "horizon", "ours", "95 % interval", "best rule"]
    names += ["ours / rule", *(PEERS[peer] for peer in peers), "test opened"]
    lines = [_row(names), "|---|---:|---|---:|---:|---|---:|" + "---:|" * (len(peers) + 2)]
    for of in results["sets"]:
        if (row := rows.get(of["name"])) is None:
            continue
        low, high = row["interval"]
        best = row["best_rule"]
        # Of maps their dims.
        size = [of["rows"], len(of["columns"])] if "rows" in of else [*of["shape"].values()]
        cells = [of["name"], " x ".join(map(str, size)), of["step"]]
        cells += [str(of["horizon"]), f"{row['value']:.3f}", f"{low:.3f} to {high:.3f}"]
        cells += [f"{best} {row['naive'][best]:.3f}", f"{row['ratio']:.3f}"]
        cells += [f"{row['peers'][peer]:.3f}" for peer in peers]
        lines.append(_row([*cells, str(row["test_openings"])]))
    ratios = [row["ratio"] for row in rows.values()]
    won, lost = sum(ratio < 1 for ratio in ratios), sum(ratio > 1.01 for ratio in ratios)
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    last = peers[-1]
    ahead = sum(row["value"] < row["peers"][last] for row in rows.values())
    left = len(results["sets"]) - len(rows)
    told = f"; {left} of the list are not scored" if left else ""
    return "\n".join(
        [
            *lines,
            "",
            f"- better than the best rule on {won} of {len(ratios)}, more than 1 % worse on {lost};"
            f" the geometric mean of the ratios is {mean:.3f}; better than {PEERS[last]} on {ahead}"
            f"{told}",
        ]
    )


def _extent(sizes: Sequence[int | None]) -> str:
    return "x".join("all" if size is None else str(size) for size in sizes)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _time(results: Results, column: tuple[str, str, str], case: str) -> str | None:
    """The time of a function in a case with three digits; None where it was not measured."""
    what, function, _ = column
    timing = results[what].get(DTYPE, {}).get(case, {"ms": {}})["ms"].get(function)
    return None if timing is None else _short(timing["ms"])


def _short(number: float) -> str:
    """Three digits, or all before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _names(question: str) -> dict[tuple[str, str], str]:
    """What the README calls each function."""
    return {(what, function): name.split(": ")[-1] for what, function, name in COLUMNS[question]}


def _ratios(question: str, results: Results) -> list[str]:
    """Per kind of measurement one line: how many times slower each peer is, mean and worst case."""
    names = _names(question)
    lines = []
    for title, peers in results["summary"].items():
        what, dtype = title.split()
        parts = [
            f"{names[what, function]} {_short(ratio['geometric_mean'])} "
            f"({_short(ratio['worst'])} in `{ratio['worst_case']}`)"
            for function, ratio in peers.items()
            if (what, function) in names
        ]
        lines.append(f"- {what}, {dtype}, time / ours: {', '.join(parts)}")
    return ["Ratios are geometric means over the cases (and the least):", "", *lines]


def _left_out(question: str, results: Results) -> list[str]:
    """One line of what the table lacks; the results file tells the other dtypes too."""
    names = _names(question)
    cases: dict[tuple[str, str, str], list[str]] = {}
    for gap in results["left_out"]:
        function = gap["function"]
        name = names.get((gap["what"], function), f'lowering="{function}"')
        if gap["dtype"] == DTYPE:
            cases.setdefault((gap["what"], name, gap["reason"]), []).append(f"`{gap['case']}`")
    parts = [
        f"{what}, {name}, in {', '.join(titles)}: {reason}"
        for (what, name, reason), titles in cases.items()
    ]
    return [f"- left out (`--full` measures it): {'; '.join(parts)}"] if parts else []


def _speed(folder: Path) -> str:
    """How many times as long others take, from the files of several questions."""

    def read(question: str) -> Results:
        (path,) = folder.glob(f"{question}-cpu-*.json")
        return json.loads(path.read_text(encoding="utf-8"))

    cut, tiles = read("extract_patches"), read("sliding_window")["summary"]["gaussian"]
    networks = read("backbones")["summary"][DTYPE].values()
    steps = sorted(f"{network['step']:.2f}" for network in networks)
    read_ahead = read("input_pipeline")["windows"]["times_as_fast"]
    rows = []
    for what, name, peer in (
        ("forward", "cutting patches", "raw lax"),
        ("gradient", "its gradient", "raw lax"),
        ("forward", "cutting patches", "torch"),
    ):
        ratio = cut["summary"][f"{what} {DTYPE}"][peer]
        told = "`lax.conv_general_dilated_patches`" if peer == "raw lax" else "torch's `unfold`"
        times = f"{_short(ratio['geometric_mean'])} (least {_short(ratio['worst'])})"
        rows.append(_row([f"{name}, {ratio['cases']} shapes", told, times]))
    rows += [
        _row(["a network over a volume in tiles", "MONAI", f"{tiles['monai']:.2f}"]),
        _row(["windows of a zarr of 8 GB", "xbatcher", f"{read_ahead:.1f}"]),
        _row(
            [
                "a training step of two networks",
                "PyTorch",
                " and ".join(steps),
            ]
        ),
    ]
    for path in sorted(folder.glob("device-*.json")):
        rows += map(_row, of_device.beside(json.loads(path.read_text(encoding="utf-8"))))
    device = cut["device"]
    head = _row(["what", "beside", "their time / ours"])
    caption = f"Time ({device['kind']}, {device['cores']} cores, {DTYPE}):"
    return "\n".join([caption, "", head, "|---|---|---:|", *rows])


def _best(rows: Sequence[Results]) -> str:
    """A few rows of the published protocols: ours, the best of others, the best naive rule."""
    # The last data set of those that a recipe was scored on.
    found = {(row["recipe"], row["horizon"], row["metric"]): row for row in rows}
    lines = [
        _row(["recipe, data", "horizon", "metric", "ours", "95 % interval", "published", "rule"])
    ]
    lines.append("|---|---:|---|---:|---|---:|---|")
    for key in BEST:
        row = found[key]
        best = max if row["metric"] in HIGHER_IS_BETTER else min
        rules = [(value, name) for name, value in row["naive"].items()]
        rule = "{1} {0:.3f}".format(*best(rules)) if rules else ""
        published = "" if row["published"] is None else f"{row['published']:.3f}"
        low, high = row["interval"]
        cells = [f"`{row['recipe']}`, {row['dataset']}", str(row["horizon"] or ""), row["metric"]]
        cells += [f"{row['value']:.3f}", f"{low:.3f} to {high:.3f}", published, rule]
        lines.append(_row(cells))
    return "\n".join(lines)


# Those of one file, whatever the device.
ONE: dict[str, Callable[[Any], str]] = {
    "linear": _linear,
    "maps": _series,
    "series": _series,
    "series_of_r": _series,
    "short_series": _short_series,
    "walk_forward": _walk_forward,
}


def blocks(question: str, folder: Path = RESULTS) -> str:
    """The tables of a question, one per device; of the published protocols one table."""
    if question == "speed":
        return _speed(folder) + "\n"
    if question == "compiled":
        return _compiled(json.loads((folder / "compiled.json").read_text(encoding="utf-8"))) + "\n"
    if question in ONE:
        path = folder / f"{question}.json"
        return ONE[question](json.loads(path.read_text(encoding="utf-8"))) + "\n"
    if question in ("published", "best"):
        path = folder / "published.json"
        rows = json.loads(path.read_text(encoding="utf-8"))
        return (_published if question == "published" else _best)(rows) + "\n"
    paths = sorted(folder.glob(f"{question}-*.json"))
    return (
        "\n\n".join(table(question, json.loads(path.read_text(encoding="utf-8"))) for path in paths)
        + "\n"
    )


def main() -> None:
    """Rewrites the pages, or says whether it would."""
    parser = argparse.ArgumentParser(description="Writes the benchmark tables into the pages.")
    parser.add_argument("--check", action="store_true", help="exit with 1 if they are not there")
    given = parser.parse_args()
    found: list[str] = []
    for page in PAGES:
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        found += [match[2] for match in BLOCK.finditer(text)]
        filled = BLOCK.sub(lambda match: f"{match[1]}{blocks(match[2])}{match[3]}", text)
        if given.check and filled != text:
            sys.exit(
                f"the tables of {page} are not the results files'; run python -m benchmarks.tables"
            )
        if filled != text:
            path.write_text(filled, encoding="utf-8")
    if sorted(found) != sorted(QUESTIONS):
        sys.exit(f"the pages must have a block for each of {QUESTIONS}, got {found}")


if __name__ == "__main__":
    main()
