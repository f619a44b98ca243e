"""What training costs on 1 to 4,096 chips, by `stpatch plan`: the table of docs/cluster.md.

    python -m benchmarks.plans [NAME ...]

Needs the extra `chips` and no chip. What is named is planned anew, the others stay as they are.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

import stpatch_jax as st
from benchmarks.arguments import add_names
from benchmarks.timing import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "cluster.md"
BEGIN, END = "<!-- plans -->\n", "<!-- /plans -->\n"
CHIPS = ("v5e:16x16", "v5p:16x16x16")
# A step that `benchmarks.device` has measured.
MEASURED = ("ViT-B video", "h200:1")
# Examples a chip.
CASES: dict[str, int] = {"stocks": 256, "weather": 64, "video-prediction": 8, "ViT-B video": 8}
SHARED: dict[str, int] = {"ViT-B video, shared": 8, "ViT-L video, shared": 4}
# A state that 16 chips share, and blocks that are recomputed.
BY_BLOCK = {"train.mesh.fsdp": 16, "train.remat": "block"}
VIT_L = {"model.features": 1024, "model.depth": 24, "model.heads": 16}
VIDEO: dict[str, dict[str, Any]] = {
    "ViT-B video": {},
    "ViT-B video, shared": BY_BLOCK,
    "ViT-L video, shared": {**VIT_L, **BY_BLOCK},
}


def planned(name: str, on: str, devices: int) -> dict[str, Any]:
    """The plan of a case as values."""
    settings: dict[str, Any] = {"batch_size": (CASES | SHARED)[name] * devices, "changes": False}
    if name not in VIDEO:
        return dict(st.plan(name, on=on, **{"model.dtype": "bfloat16"}, **settings).values)
    settings |= {"model": "patch_transformer:large", "model.spec.window": (2, 16, 16)}
    settings |= VIDEO[name]
    clips = np.zeros((24, 16, 224, 224, 3), np.uint8)
    data = clips, np.arange(24) % 3
    return dict(
        st.plan("classify", data=data, on=on, **{"model.dtype": "bfloat16"}, **settings).values
    )


def table(found: dict[str, Any]) -> str:
    """The plans as a table."""
    lines = [
        "| step | chips | parameters | GiB of | arithmetic [ms] | memory [ms] | network [ms] |"
        " binds | of the peak [%] | examples/s |",
        "|---|---|---:|---:|---:|---:|---:|---|---:|---:|",
    ]
    for case, values in found.items():
        cost, name = values["train"], case.partition(" on ")[0]
        times = " | ".join(f"{1e3 * cost['seconds'][of]:.3g}" for of in cost["seconds"])
        memory = f"{cost['memory']['total'] / 2**30:.2g} of {cost['capacity'] / 2**30:.3g}"
        lines.append(
            f"| {name}, {(CASES | SHARED)[name]} a chip | {values['on']} | {values['parameters']:,}"
            f" | {memory} | {times} | {cost['binds']} | {100 * cost['utilization']:.0f} |"
            f" {cost['examples_per_second']:,.0f} |"
        )
    return f"\nCompiled with jax {jax.__version__}:\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Plans what is named, or all, and writes results and table after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    pairs = [(name, on) for name in CASES for on in CHIPS]
    pairs += [(name, CHIPS[0]) for name in SHARED]
    cases = {f"{name} on {on}": (name, on) for name, on in [*pairs, MEASURED]}
    add_names(parser, list(cases))
    asked = parser.parse_args().names
    jax.config.update("jax_platforms", "cpu")
    file = RESULTS / "plans.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for case in asked or cases:
        name, on = cases[case]
        known[case] = planned(name, on, len(st.chips.topology(on).devices))
        found = {case: known[case] for case in cases if case in known}
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        page = before + BEGIN + table(found) + END + rest.partition(END)[2]
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
