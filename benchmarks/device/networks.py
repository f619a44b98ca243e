"""What networks do on a device: training steps, their share of the peak, attention."""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import backbones
from benchmarks.device.programs import (
    REPEATS,
    Items,
    OfTorch,
    Programs,
    failing,
    held,
    rates,
    torch_on_device,
)
from benchmarks.networks import CLASSES, NETWORKS, Network
from benchmarks.timing import Answer, Call, interleaved
from stpatch_jax import WindowSpec
from stpatch_jax.flops import gradient_flops
from stpatch_jax.nn import PatchTransformerConfig
from stpatch_jax.nn.attention import SelfAttention
from stpatch_jax.nn.blocks import Remat
from stpatch_jax.nn.options import LayerOptions

# --- a video transformer


def video_transformer(batch: int, small: bool) -> Network:
    """ViT-B on 16 frames of 224 x 224: joint attention over 1,568 tokens, 163 M weights."""
    config = PatchTransformerConfig.large(WindowSpec((2, 16, 16)))
    shape = (batch, 16, 224, 224, 3)
    if small:
        config, shape = PatchTransformerConfig.tiny(WindowSpec((2, 8, 8))), (2, 4, 16, 16, 3)
    return Network(lambda dtype: dataclasses.replace(config, dtype=dtype), shape, hidden=(64,))


def vit(small: bool) -> Items:
    """A training step of a video transformer, its memory and share of the peak."""
    if not small:
        yield "matrix product", matrix_products
    at_8, at_32 = (video_transformer(batch, small) for batch in (8, 32))
    yield "ViT-B, batch 8", functools.partial(vit_step, at_8)
    yield "ViT-B, batch 8, torch", functools.partial(vit_by_torch, at_8)
    yield "ViT-B, batch 8, remat", functools.partial(vit_step, at_8, remat="dots")
    yield "ViT-B, batch 8, remat by block", functools.partial(vit_step, at_8, remat="block")
    yield "ViT-B, batch 32", functools.partial(vit_step, at_32)


def matrix_products() -> Answer:
    """FLOP/s of a large square product, the most that a step could reach."""
    return {dtype: backbones.peak(dtype) for dtype in ("float32", "bfloat16")}


def vit_flops(network: Network) -> int:
    """Multiplications and additions of one training step, whichever kernel attends."""
    config: Any = network.backbone("bfloat16")
    batch, tokens = network.shape[0], int(np.prod(config.spec.grid_shape(network.shape[1:-1])))
    width, hidden = config.features, config.hidden
    patch = int(np.prod(config.spec.window)) * network.shape[-1]
    block = 4 * width**2 + 2 * width * hidden + 2 * tokens * width
    (head,) = network.hidden
    forward = config.depth * tokens * block + head * (tokens * width + CLASSES)
    # Each product has two in the gradient; nobody asks for that of the field.
    return 2 * batch * (3 * forward + 2 * tokens * patch * width)


def vit_step(network: Network, *, remat: Remat = "none") -> Answer:
    """Our training step in bfloat16."""
    before = held()
    ours = backbones.Ours(network, "bfloat16", remat=remat)
    jax.block_until_ready(ours.step())
    after = held()
    answer: Answer = {"ms": interleaved({"step": ours.step}, repeats=5, slow_s=60)}
    answer |= {"parameters": backbones.parameters(ours.state.model), "compile_s": ours.compile_s}
    answer |= {"memory_bytes": ours.memory} | ({"peak_bytes": after} if after > before else {})
    return rates(answer, vit_flops(network), examples=network.shape[0])


def vit_by_torch(network: Network) -> Answer:
    """The same layers and widths by `torch.compile`, with automatic bfloat16 and fused Adam."""
    there = torch_on_device()
    if there is None:
        return {"error": "PyTorch is not on this device"}
    torch, device = there
    config: Any = network.backbone("bfloat16")
    batch, *_, channels = network.shape
    tokens = int(np.prod(config.spec.grid_shape(network.shape[1:-1])))
    patch, layers = int(np.prod(config.spec.window)) * channels, torch.nn
    block = layers.TransformerEncoderLayer(
        config.features, config.heads, config.hidden, 0.0, "gelu", batch_first=True, norm_first=True
    )
    model = layers.Sequential(
        layers.Linear(patch, config.features),
        layers.TransformerEncoder(block, config.depth, enable_nested_tensor=False),
        layers.LayerNorm(config.features),
        layers.Flatten(),
        layers.Linear(tokens * config.features, network.hidden[0]),
        layers.ReLU(),
        layers.Linear(network.hidden[0], CLASSES),
    ).to(device)
    # Patches lie there as tokens: cutting them is no part of its time.
    x = torch.randn(batch, tokens, patch, device=device)
    label = torch.randint(0, CLASSES, (batch,), device=device)
    run = model if device == "cpu" else torch.compile(model)
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, fused=device != "cpu")

    def step() -> OfTorch:
        adam.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(run(x), label)
        loss.backward()
        adam.step()
        return OfTorch(torch, loss)

    start = time.perf_counter()
    step().block_until_ready()
    compile_s = round(time.perf_counter() - start, 1)
    answer: Answer = {"ms": interleaved({"step": step}, repeats=5, slow_s=60)}
    answer |= {"parameters": sum(p.numel() for p in model.parameters()), "compile_s": compile_s}
    if device == "cuda":
        answer["peak_bytes"] = torch.cuda.max_memory_allocated()
    return rates(answer, vit_flops(network), examples=batch)


# --- attention


def attention(small: bool) -> Items:
    """One attention layer in bfloat16: what the package chooses, plain, cuDNN's and PyTorch's."""
    for tokens in (64,) if small else (1568, 8192):
        for what in ("gradient", "forward"):
            batch = 2 if small else 8 * 1568 // tokens
            yield f"{tokens} tokens, {what}", functools.partial(attend, batch, tokens, what)


def attend(batch: int, tokens: int, what: str) -> Answer:
    """Times a whole layer, projections included, with the same weights for all."""
    width, heads = (768, 12) if tokens > 64 else (32, 2)
    options = LayerOptions(dtype="bfloat16")
    layer = SelfAttention(width, heads, options=options, rngs=nnx.Rngs(0))
    graphdef, weights = nnx.split(layer)
    x = jax.random.normal(jax.random.key(1), (batch, tokens, width), jnp.bfloat16)

    def ours(weights: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, weights)(x)

    def by(implementation: Any) -> Callable[[Any, jax.Array], jax.Array]:
        def run(weights: Any, x: jax.Array) -> jax.Array:
            layer = nnx.merge(graphdef, weights)
            qkv = layer.qkv(x).reshape(batch, tokens, 3, heads, -1)
            parts = (qkv[:, :, part] for part in range(3))
            y = jax.nn.dot_product_attention(*parts, implementation=implementation)
            return layer.out(y.reshape(x.shape))

        return run

    def wanted(run: Callable[[Any, jax.Array], jax.Array]) -> Callable[[Any, jax.Array], Any]:
        if what == "forward":
            return run
        return jax.grad(lambda weights, x: run(weights, x).astype(jnp.float32).sum(), (0, 1))

    ways = {"ours": ours, "cudnn": by("cudnn"), "plain": by("xla")}
    if jax.default_backend() != "gpu":
        del ways["cudnn"]
    # From what needs little memory to what needs much, so that each raises the device's peak.
    made = Programs.of({name: (wanted(run), (weights, x)) for name, run in ways.items()})
    results: dict[str, Any] = {}
    if there := torch_on_device():
        with failing(made.errors, "torch"):
            made.calls["torch"] = attention_of_torch(*there, layer, x, what, heads)
    answer = made.timed(check=results.__setitem__)
    plain = results.get("plain")
    apart = {name: apart_from(plain, y) for name, y in results.items() if plain is not None}
    return {"apart_from_plain": apart, **answer}


def apart_from(expected: Any, got: Any) -> float:
    """The norm of the difference over the norm, all arrays together."""
    pairs = zip(jax.tree.leaves(expected), jax.tree.leaves(got), strict=True)
    pairs = [(np.asarray(a, np.float32), np.asarray(b, np.float32)) for a, b in pairs]
    difference = sum(float(np.sum((a - b) ** 2)) for a, b in pairs)
    return (difference / sum(float(np.sum(a**2)) for a, _ in pairs)) ** 0.5


def attention_of_torch(
    torch: ModuleType, device: str, layer: SelfAttention, x: jax.Array, what: str, heads: int
) -> Call:
    """The layer by PyTorch's fused attention, compiled where it is a GPU."""
    batch, tokens, width = x.shape
    qkv, out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
    model = torch.nn.ModuleList([qkv, out]).to(device, torch.bfloat16)
    field = torch.randn(batch, tokens, width, device=device, dtype=torch.bfloat16)
    field.requires_grad_(what == "gradient")

    def layer_of_torch(x: Any) -> Any:
        parts = qkv(x).reshape(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(*parts)
        return out(y.transpose(1, 2).reshape(batch, tokens, width))

    run = layer_of_torch if device == "cpu" else torch.compile(layer_of_torch)

    def call() -> OfTorch:
        if what == "forward":
            with torch.no_grad():
                return OfTorch(torch, run(field))
        for parameter in (*model.parameters(), field):
            parameter.grad = None
        run(field).float().sum().backward()
        return OfTorch(torch, field.grad)

    call().block_until_ready()  # what compiles is not timed
    return call


# --- backbones


def networks(small: bool) -> Items:
    """Steps of the networks of `benchmarks.networks`, the classic two beside their twins."""
    known = {name: network.small() if small else network for name, network in NETWORKS.items()}
    classic = ("conv3d_64", "cnn_scnn_lstm")
    for name, dtype in itertools.product(classic, ("float32", "bfloat16")):
        yield f"{name}, {dtype}", functools.partial(network_step, name, known[name], dtype)
    for name, network in known.items():
        if name not in classic and not small:
            yield f"{name}, bfloat16", functools.partial(network_step, name, network, "bfloat16")


def network_step(name: str, network: Network, dtype: Any) -> Answer:
    """Forward and training step, alone or in turn with the twin in PyTorch."""
    ours = backbones.Ours(network, dtype)
    calls: dict[str, Call] = {"forward": ours.forward, "step": ours.step}
    errors: dict[str, str] = {}
    with failing(errors, "torch"):
        torch_on_device()
        calls |= backbones.torch_calls(name, network, ours, dtype)
    for call in calls.values():
        jax.block_until_ready(call())  # what compiles at the first call is not timed
    answer: Answer = {"ms": interleaved(calls, repeats=REPEATS), "compile_s": ours.compile_s}
    answer |= {"parameters": backbones.parameters(ours.state.model), "memory_bytes": ours.memory}
    model = nnx.eval_shape(lambda: network.create(dtype, nnx.Rngs(0)))
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), network.batch())
    flops = gradient_flops(network.task.loss, model, batch)
    for kind in ("step", "torch step"):
        if timing := answer["ms"].get(kind):
            rates({"ms": {kind: timing}}, flops, examples=network.shape[0])
    return {"flops": flops, **answer, **({"errors": errors} if errors else {})}


PARTS = {"vit": vit, "attention": attention, "backbones": networks}
