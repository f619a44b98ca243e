"""What training costs on 1 to 4,096 chips, by `stpatch plan`: the table of docs/cluster.md.

    python -m benchmarks.plans [NAME ...]

Needs the extra `chips` and no chip. What is named is planned anew, the others stay as they are.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import stpatch_jax as st
from benchmarks.arguments import add_names
from benchmarks.networks import NETWORKS
from benchmarks.timing import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "cluster.md"
BEGIN, END = "<!-- plans -->\n", "<!-- /plans -->\n"
CHIPS = ("v5e:16x16", "v5p:16x16x16")
# A slice, two of them, and 32 hosts of 8 GPUs.
PODS = ("v5e:16x16", "2*v5e:16x16", "h100:8x32")
# A step that `benchmarks.device` has measured.
MEASURED = ("ViT-B video", "h200:1")
# A state that so many devices share, and blocks that are recomputed.
SHARED = {"train.remat": "block", "train.mesh.fsdp": 16}
SEVEN = {"features": 4096, "depth": 35, "heads": 32, "mlp_ratio": 4.0}
# Examples a device and settings.
CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "stocks": (256, {}),
    "weather": (64, {}),
    "video-prediction": (8, {}),
    "ViT-B video": (8, {"model": "patch_transformer:large", "model.spec.window": (2, 16, 16)}),
    "ViT-L video": (4, {"model": "patch_transformer:vit_l", **SHARED}),
    # Many clips, whose inputs of blocks stay on the chip or wait on the host.
    "ViT-L block video": (32, {"model": "patch_transformer:vit_l", **SHARED}),
    "ViT-L offload video": (
        32,
        {"model": "patch_transformer:vit_l", **SHARED, "train.remat": "offload"},
    ),
    "ViT-H video": (4, {"model": "patch_transformer:vit_h", **SHARED}),
    "ViT-g video": (4, {"model": "patch_transformer:vit_g", **SHARED}),
    "7 B video": (
        1,
        {
            "model": "patch_transformer:vit_g",
            **{f"model.{name}": value for name, value in SEVEN.items()},
            **SHARED,
            "train.mesh.fsdp": 256,
        },
    ),
    "conv3d_64": (2048, {}),
    "cnn_scnn_lstm": (512, {}),
    "1.3 B weather": (1, {"model": "patch_transformer:weather", **SHARED, "train.mesh.fsdp": 256}),
}
PAIRS = [(name, on) for name in list(CASES)[:4] for on in CHIPS]
PAIRS += [(name, on) for name in ("ViT-L video", "ViT-g video") for on in PODS]
CLASSIC = [name for name in CASES if name in NETWORKS]
PAIRS += [(name, on) for name in CLASSIC for on in ("v5e:16x16", "h100:8x32")]
SLICE = ("ViT-L block video", "ViT-L offload video", "ViT-H video", "7 B video", "1.3 B weather")
PAIRS += [(name, CHIPS[0]) for name in SLICE]


def planned(name: str, on: str, devices: int) -> dict[str, Any]:
    """The plan of a case as values."""
    each, settings = CASES[name]
    settings = {
        "batch_size": each * devices,
        "changes": False,
        "model.dtype": "bfloat16",
        **settings,
    }
    recipe: Any = name
    data: Any = None
    if name in CLASSIC:
        network = NETWORKS[name]
        recipe = replace(st.recipes.recipe("classify"), model=network.backbone("bfloat16"))
        data = np.zeros((24, *network.shape[1:]), np.uint8), np.arange(24) % 3
    elif name.endswith(" video"):
        recipe, data = "classify", (np.zeros((24, 16, 224, 224, 3), np.uint8), np.arange(24) % 3)
    elif name == "1.3 B weather":
        recipe, data = "forecast", np.zeros((12, 721, 1440, 69), np.float16)
        data[:] = np.arange(69)
        settings |= {"data.context": 2, "data.horizon": 1, "task.normalize": "none"}
    return dict(st.plan(recipe, on=on, data=data, **settings).values)


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
            f"| {name}, {CASES[name][0]} a chip | {values['on']} | {values['parameters']:,}"
            f" | {memory} | {times} | {cost['binds']} | {100 * cost['utilization']:.0f} |"
            f" {cost['examples_per_second']:,.0f} |"
        )
    return f"\nCompiled with jax {jax.__version__}:\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Plans what is named, or all, and writes results and table after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    cases = {f"{name} on {on}": (name, on) for name, on in [*PAIRS, MEASURED]}
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
