"""The tables of what was measured on a device."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.timing import Answer

GIGA = 1e9


def lines_of(results: Mapping[str, Any]) -> list[str]:
    """The Markdown of `device-DEVICE.json` behind its caption: a table or some lines a part."""
    parts: Mapping[str, Mapping[str, Answer]] = results["parts"]
    blocks = [
        exact(parts.get("exactness", {})),
        operators(parts.get("operators", {}), parts.get("raw", {})),
        embeddings(parts.get("embeddings", {})),
        steps({**parts.get("vit", {}), **parts.get("backbones", {})}),
        attention(parts.get("attention", {})),
        tiles(parts.get("tiles", {})),
        errors(parts),
    ]
    return [line for block in blocks if block for line in ("", *block)]


def row(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def short(number: float | None) -> str:
    """Three digits, or all before the point; nothing for None."""
    if number is None:
        return ""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def time_of(answer: Answer, name: str) -> float | None:
    """Milliseconds of a function, None where it was not measured."""
    return answer.get("ms", {}).get(name, {}).get("ms")


def exact(part: Mapping[str, Answer]) -> list[str]:
    """What came out with other bits."""
    lines = []
    for title, answer in part.items():
        if "different" in answer:
            wrong = [f"{name} ({count})" for name, count in answer["different"].items() if count]
            found = f"other bits in {', '.join(wrong)}" if wrong else "every bit"
            lines.append(f"- {title}, {len(answer['different'])} programs: {found}")
    return lines and ["Beside NumPy, numbers that differ:", "", *lines]


def operators(part: Mapping[str, Answer], raw: Mapping[str, Answer]) -> list[str]:
    """Times of a copy, and how many times as long the operators take; float32, then a mean each."""
    ours = ("auto", "blocks", "gather", "tokens", "gradient", "fold")
    names = ["case", "moved [GB]", "copy [ms]", "copy [GB/s]"]
    names += [f"{name} / copy" if not at else name for at, name in enumerate((*ours, "torch"))]
    lines = [row([*names, "lax op"]), "|---|" + "---:|" * len(names)]
    if not part:
        return []
    means: dict[str, dict[str, list[float]]] = {}
    for title, answer in part.items():
        case, dtype = title.split(", ")
        if not (copy := time_of(answer, "copy")):
            continue
        times = {name: time_of(answer, name) for name in (*ours, "torch")}
        times["lax op"] = time_of(raw.get(title, {}), "raw lax")
        ratios = {name: ms / copy for name, ms in times.items() if ms}
        for name, ratio in ratios.items():
            means.setdefault(dtype, {}).setdefault(name, []).append(ratio)
        if dtype == "float32":
            speed = short(answer["moved"] / copy / 1e6)
            cells = [f"`{case}`", short(answer["moved"] / GIGA), short(copy), speed]
            lines.append(row([*cells, *(short(ratios.get(name)) for name in times)]))
    told = "time / copy in the geometric mean"
    return [*lines, "", *(f"- {dtype}, {told}: {mean(by)}" for dtype, by in means.items())]


def beside(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What the README tells of a device: a thing, a peer, and its time over ours."""
    parts, kind = results["parts"], results["device"]["kind"]
    cases = {name: answer for name, answer in parts["operators"].items() if "float32" in name}
    peers = {"raw lax": "`lax.conv_general_dilated_patches`", "torch": "torch's `unfold`"}
    rows = []
    for peer, told in peers.items():
        found = parts["raw"] if peer == "raw lax" else cases
        times = [
            (time_of(found.get(name, {}), peer), time_of(cases[name], "auto")) for name in cases
        ]
        if ratios := [ms / ours for ms, ours in times if ms and ours]:
            ratio = f"{short(statistics.geometric_mean(ratios))} (least {short(min(ratios))})"
            rows.append((f"{kind}: cutting patches, {len(ratios)} shapes", told, ratio))
    ours, theirs = (parts["vit"].get(f"ViT-B, batch 8{peer}", {}) for peer in ("", ", torch"))
    if (ms := time_of(theirs, "step")) and (own := time_of(ours, "step")):
        rows.append(
            (f"{kind}: a step of ViT-B on video, bfloat16", "`torch.compile`", short(ms / own))
        )
    return rows


def embeddings(part: Mapping[str, Answer]) -> list[str]:
    """What networks embed patches by, and how many times as long the ways that there are take."""
    lines = []
    for title, answer in part.items():
        if ours := time_of(answer, "embedding"):
            times = {name: time_of(answer, name) for name in ("matrix", "convolution")}
            told = ", ".join(f"{name} {short(ms / ours)}" for name, ms in times.items() if ms)
            lines.append(f"- embedding of {title}: {short(ours)} ms; time / ours: {told}")
    return lines


def mean(by_name: Mapping[str, Sequence[float]]) -> str:
    """Geometric means by name."""
    parts = ((name, statistics.fmean(map(math.log, ratios))) for name, ratios in by_name.items())
    return ", ".join(f"{name} {short(math.exp(log))}" for name, log in parts)


def steps(part: Mapping[str, Answer]) -> list[str]:
    """Training steps, ours and PyTorch's."""
    names = ["step", "parameters", "[ms]", "examples/s", "TFLOP/s", "of peak"]
    names += ["memory [GB]", "held [GB]", "compiled [s]", "torch [ms]"]
    lines = [row(names), "|---|" + "---:|" * (len(names) - 1)]
    for title, answer in part.items():
        timing = answer.get("ms", {}).get("step")
        if timing is None:
            continue
        share = timing.get("share_of_peak")
        cells = [title, f"{answer['parameters']:,}", short(timing["ms"])]
        cells += [short(timing["examples_per_s"]), short(timing["flop_per_s"] / 1e12)]
        cells += ["" if share is None else f"{100 * share:.1f} %"]
        needs = (answer.get("memory_bytes"), answer.get("peak_bytes"))
        cells += [short(need and need / GIGA) for need in needs]
        cells += [short(answer["compile_s"]), short(time_of(answer, "torch step"))]
        lines.append(row(cells))
    return lines if len(lines) > 2 else []


def attention(part: Mapping[str, Answer]) -> list[str]:
    """One layer of attention by every way: time, and memory beside it."""
    ways = ("ours", "cudnn", "plain", "torch")
    names = ["attention layer", *(f"{way} [ms]" for way in ways)]
    names += [f"{way} [GB]" for way in ways[:3]]
    lines = [row(names), "|---|" + "---:|" * (len(names) - 1)]
    for title, answer in part.items():
        if "ms" in answer:
            memory = answer["memory_bytes"]
            sizes = (memory[way] / GIGA if way in memory else None for way in ways[:3])
            lines.append(
                row([title, *(short(time_of(answer, way)) for way in ways), *map(short, sizes)])
            )
    return lines if len(lines) > 2 else []


def tiles(part: Mapping[str, Answer]) -> list[str]:
    """Cells a second, and what tiles change."""
    lines = []
    for title, answer in part.items():
        if "largest_difference" in answer:
            lines.append(
                f"- tiles beside {title}: {answer['largest_difference']:.1g} apart at most in "
                f"values up to {short(answer['largest_value'])}; a copy changes "
                f"{answer['copied_differently']} numbers"
            )
        elif "ms" in answer:
            speeds = ", ".join(
                f"{name} {short(timing['cells_per_s'] / 1e6)}"
                for name, timing in answer["ms"].items()
            )
            held = answer.get("peak_bytes")
            told = f", held {short(held / GIGA)} GB" if held else ""
            lines.append(
                f"- a cube of {title} in tiles, million cells a second: {speeds}; planned "
                f"{short(answer['memory_bytes'] / GIGA)} GB{told}"
            )
    return lines


def errors(parts: Mapping[str, Mapping[str, Answer]]) -> list[str]:
    """What failed and what time was left for."""
    return [
        f"- not measured: {part}, {title}{at}: {error}"
        for part, answers in parts.items()
        for title, answer in answers.items()
        for at, error in _errors(answer)
    ]


def _errors(answer: Answer) -> Iterator[tuple[str, str]]:
    if "error" in answer:
        yield "", answer["error"]
    for name, error in answer.get("errors", {}).items():
        yield f", {name}", error.partition("\n")[0]
