"""A plan as Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from stpatch_jax.runs.judging.tables import document, markdown_table

_GIB = 2**30


def told(values: Mapping[str, Any]) -> str:
    """What a plan says, out of what `plan.json` holds."""
    train = values["train"]
    names = {"train": "training step", "evaluate": "evaluation", "predict": "region of a field"}
    columns = {name: values[part] for part, name in names.items() if values[part]}
    mesh = ", ".join(f"{name} {size}" for name, size in values["mesh"].items() if size > 1)
    batch, devices = values["batch_size"], values["devices"]
    return document(
        [
            f"# plan of {values['recipe']} on {values['on']}",
            "",
            f"**{_verdict(train)}** {_bound(train)}".rstrip(),
            "",
            f"- {devices} devices of {values['hosts']} hosts; mesh: {mesh or 'one device'}",
            f"- {values['parameters']:,} parameters; batch of {batch:,} examples, "
            f"{values['flops_per_example'] / 1e9:.4g} GFLOP each",
            *(f"- {name} {text}" for name, text in values["chosen"].items()),
            *([f"- found: {_words(values['settings'])}"] if values["settings"] else []),
            *_of_platform(values),
            *_of_field(values["field"]),
            "",
            *markdown_table(["a device", *columns], _rows(list(columns.values()))),
            *_tried(values),
        ]
    )


def _verdict(cost: Mapping[str, Any]) -> str:
    total, capacity = cost["memory"]["total"], cost["capacity"]
    if capacity is None:
        return f"Needs {total / _GIB:.3g} GiB a device."
    of = f"{total / _GIB:.3g} of {capacity / _GIB:.3g} GiB a device"
    over = f", {(total - capacity) / _GIB:.3g} GiB too many"
    return f"Fits: {of}." if cost["fits"] else f"Does not fit: {of}{over}."


def _bound(cost: Mapping[str, Any]) -> str:
    if not cost["step"]:
        return ""
    return (
        f"A step takes {1e3 * cost['step']:.3g} ms at least, bound by {cost['binds']}: at most "
        f"{cost['examples_per_second']:,.0f} examples a second and "
        f"{100 * cost['utilization']:.3g} % of the peak."
    )


def _of_platform(values: Mapping[str, Any]) -> list[str]:
    if values["platform"] == "gpu":
        return ["- without the room that cuDNN takes to work in, which it alone knows"]
    if values["platform"] == "tpu":
        return []
    told = ["- no time is told: the peaks of a CPU are not known"]
    if values["dtype"] == "bfloat16":
        told += ["- bfloat16 does not pay on a CPU; give model.dtype float32"]
    return told


def _of_field(field: Mapping[str, Any] | None) -> list[str]:
    if not field:
        return []
    regions, forecasts, windows = field["regions"], field["forecasts"], field["windows"]
    shape = "x".join(map(str, field["slab"]))
    return [
        f"- forecasts of this field from each row on: {regions:,} region{'s' * (regions > 1)} of "
        f"{forecasts:,}, each on one device, {windows} windows at a time, out of {shape} values"
    ]


def _rows(costs: list[Mapping[str, Any]]) -> Iterator[list[Any]]:
    def row(name: str, of: Any) -> list[Any]:
        return [name, *(of(cost) for cost in costs)]

    names = {"weights": "weights", "optimizer": "optimiser", "inputs": "inputs"}
    names |= {"temporaries": "activations, temporaries", "total": "total"}
    for part, name in names.items():
        yield row(f"{name} [GiB]", lambda x, part=part: _per(x["memory"].get(part), _GIB))
    yield row("arithmetic [GFLOP]", lambda x: x["flops"] / 1e9)
    if any(cost["computed"] > cost["flops"] for cost in costs):
        yield row("computed again [GFLOP]", lambda x: (x["computed"] - x["flops"]) / 1e9)
    yield row("memory moved [GB]", lambda x: _per(x["moved"], 1e9))
    for kind in dict.fromkeys(kind for cost in costs for kind in cost["sent"]):
        yield row(f"{kind} [MB]", lambda x, kind=kind: _per(x["sent"].get(kind), 1e6))
    for name in ("arithmetic", "memory", "network"):
        if any(cost["seconds"] for cost in costs):
            yield row(f"time of {name} [ms]", lambda x, n=name: _per(x["seconds"].get(n), 1e-3))


def _tried(values: Mapping[str, Any]) -> list[str]:
    if not values["tried"]:
        return []
    rows = {_words(values["settings"]) or "this plan": values["train"], **values["tried"]}
    heads = ["tried", "fits", "memory [GiB]", "step [ms]", "of the peak [%]", "examples/s"]
    table = markdown_table(heads, ([name, *_cells(of)] for name, of in rows.items()), texts=2)
    return ["", "## Other settings", "", *table]


def _cells(cost: Mapping[str, Any] | None) -> list[Any]:
    if cost is None:
        return ["refused", None, None, None, None]
    memory = float(cost["memory"]["total"]) / _GIB
    share = _per(cost["utilization"], 0.01)
    step, speed = _per(cost["step"], 1e-3), cost["examples_per_second"]
    return ["yes" if cost["fits"] else "no", memory, step, share, speed and f"{speed:,.0f}"]


def _words(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _per(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit
