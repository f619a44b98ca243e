"""How fast are the backbones, forward and in a training step, and how near to the peak?

    python -m benchmarks.backbones [scnn gru] [--small] [--dtypes float32] [--repeats 9]

Every network is a backbone with a classification head. The training step is the library's own:
loss, gradient, finite check and one Adam update. The two classic networks have twins in PyTorch
(eager on a CPU, `torch.compile` on a GPU; Adam too), which get the same weights and must give the
same logits before anything is timed. All calls of a network are timed in turn in one process; times
are medians, compile time stands apart. FLOPs are those that XLA counts in the compiled program, the
peak is a measured product of two square matrices in the same dtype, and memory is what the compiled
step needs for its arguments, results and scratch. To add a device, run this on it, commit
`benchmarks/results/backbones-DEVICE.json` and run `python -m benchmarks.tables`.
"""

import functools
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.arguments import arguments
from benchmarks.cases import as_float32, peer
from benchmarks.networks import NETWORKS, Network, twin
from benchmarks.timing import Answer, Call, compiled, interleaved, print_case, write_results
from benchmarks.weak_scaling import parameters
from stpatch_jax.flops import compiled_bytes
from stpatch_jax.nn.blocks import Remat
from stpatch_jax.nn.options import DTypeName
from stpatch_jax.training import (
    OptimizerConfig,
    TrainConfig,
    create_state,
    make_mesh,
    make_train_step,
    shard_local_batch,
)

DTYPES = ("float32", "bfloat16")
MATRIX = {"cpu": 2048, "gpu": 8192, "tpu": 8192}
RATE = 1e-4


def peak(dtype: str) -> float:
    """FLOP/s of a product of two large square matrices, the best of several runs."""
    size = MATRIX.get(jax.default_backend(), 8192)
    # Of zeros or ones a device makes more a second than of what a network has.
    matrix = jax.random.normal(jax.random.key(0), (size, size), dtype)
    call, _ = compiled(jnp.dot, matrix, matrix)
    timing = interleaved({"matmul": call}, repeats=7)["matmul"]
    return 2e3 * size**3 / timing["ms_fastest"]


class Ours:
    """One of our networks, compiled: forward and training step as calls without arguments."""

    def __init__(self, network: Network, dtype: DTypeName, *, remat: Remat = "none"):
        mesh = make_mesh()
        config = TrainConfig(
            steps=1,
            batch_size=network.shape[0],
            optimizer=OptimizerConfig(name="adam", learning_rate=RATE, weight_decay=0.0),
        )
        self.state = create_state(functools.partial(network.create, dtype), config, mesh)
        self.batch = shard_local_batch(network.batch(), mesh)
        self.model = nnx.view(self.state.model, deterministic=True)
        graphdef, weights = nnx.split(self.model)
        # The training step gives the buffers of the state away.
        self.weights = jax.tree.map(jnp.copy, weights)
        self._forward = jax.jit(lambda weights, x: nnx.merge(graphdef, weights)(x))
        train_step = make_train_step(network.task.loss, mesh, remat=remat)
        start = time.perf_counter()
        lowered = train_step.lower(self.state, self.batch).compile()
        self.compile_s = time.perf_counter() - start
        self.step_flops = _flops(lowered)
        self.memory = compiled_bytes(lowered)
        self.step = functools.partial(train_step, self.state, self.batch)

    @functools.cached_property
    def forward_program(self) -> Any:
        """The compiled forward pass of the first weights, for who asks."""
        return self._forward.lower(self.weights, self.batch["field"]).compile()

    def forward(self) -> Any:
        """Logits of the batch."""
        return self.forward_program(self.weights, self.batch["field"])


def _flops(program: Any) -> float:
    return float((program.cost_analysis() or {}).get("flops", float("nan")))


def torch_calls(name: str, network: Network, ours: Ours, dtype: str) -> dict[str, Call]:
    """Forward and training step of the twin with our weights; empty where there is none.

    Raises:
        AssertionError: Its logits are not ours.
    """
    if not (torch := peer("torch")) or not (model := twin(torch, name, network.shape)):
        return {}
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    model.load(ours.model)
    model = model.to(device, getattr(torch, dtype))
    field = torch.from_numpy(np.moveaxis(np.asarray(ours.batch["field"]), -1, 1).copy())
    field = field.to(device, getattr(torch, dtype))
    label = torch.from_numpy(np.array(ours.batch["label"])).long().to(device)
    run = model if device == "cpu" else torch.compile(model)
    adam = torch.optim.Adam(model.parameters(), lr=RATE)

    def wait(result: Any) -> Any:
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    def forward() -> Any:
        with torch.no_grad():
            return wait(run(field))

    def step() -> Any:
        adam.zero_grad()
        loss = torch.nn.functional.cross_entropy(run(field).float(), label)
        loss.backward()
        adam.step()
        return wait(loss)

    tolerance = 2e-3 if dtype == "float32" else 0.1
    if device == "cuda":
        tolerance *= 5  # TF32
    np.testing.assert_allclose(
        as_float32(forward().cpu()), as_float32(ours.forward()), rtol=tolerance, atol=tolerance
    )
    return {"torch forward": forward, "torch step": step}


def measure(
    name: str, network: Network, dtype: DTypeName, fastest: float, *, repeats: int
) -> Answer:
    """Times one network, alone or in turn with its twin."""
    ours = Ours(network, dtype)
    calls: dict[str, Call] = {"forward": ours.forward, "step": ours.step}
    calls |= torch_calls(name, network, ours, dtype)
    for call in calls.values():
        jax.block_until_ready(call())  # what compiles at the first call is not timed
    timings = interleaved(calls, repeats=repeats)
    seconds = timings["step"]["ms"] / 1e3
    return {
        "ms": timings,
        "compile_s": round(ours.compile_s, 2),
        "parameters": parameters(ours.state.model),
        "samples_per_s": round(network.shape[0] / seconds, 1),
        "flops": {"forward": _flops(ours.forward_program), "step": ours.step_flops},
        "flop_per_s": ours.step_flops / seconds,
        "share_of_peak": round(ours.step_flops / seconds / fastest, 3),
        "memory_bytes": ours.memory,
    }


def summary(networks: Mapping[str, Answer]) -> dict[str, dict[str, float]]:
    """How many times slower the twin is than ours, per network and kind of call."""
    return {
        name: {
            kind: round(answer["ms"][f"torch {kind}"]["ms"] / answer["ms"][kind]["ms"], 3)
            for kind in ("forward", "step")
        }
        for name, answer in networks.items()
        if "torch step" in answer["ms"]
    }


def main() -> None:
    """Measures, prints and writes."""
    small = {name: network.small() for name, network in NETWORKS.items()}
    given = arguments(__doc__ or "", NETWORKS, small=small, dtypes=DTYPES, repeats=9)
    answer: Answer = {"networks": {}, "peak_flop_per_s": {}, "summary": {}}
    for dtype in given.dtypes:
        answer["peak_flop_per_s"][dtype] = fastest = peak(dtype)
        measured = answer["networks"][dtype] = {}
        for name, network in given.cases.items():
            measured[name] = measure(name, network, dtype, fastest, repeats=given.repeats)
            print_case(f"{dtype} {name}", measured[name]["ms"])
        answer["summary"][dtype] = summary(measured)
        for name, ratio in answer["summary"][dtype].items():
            print(f"{dtype} {name}: torch / ours = {ratio}")
    answer["cases"] = {name: {"shape": network.shape} for name, network in given.cases.items()}
    write_results("backbones", answer, folder=given.results, note=given.note)


if __name__ == "__main__":
    main()
