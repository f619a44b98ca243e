"""How well does a class for each cell come out beside a U-Net of MONAI, trained as long?

    python -m benchmarks.segmentation [shapes digits] [--small] [--seconds 5] [--seeds 3]

`shapes` are volumes of 20 x 20 x 20 cells with balls and tubes in noise, made as those of the
recipe `segment`; `digits` are pictures of 40 x 40 cells with four digits of scikit-learn in noise,
of which every cell is that digit or background. All networks see the same batches of four and
minimise cross-entropy plus Dice by AdamW, whose rate falls to 0, for as many seconds of CPU time;
what is spent before the first step, as on compiling, comes on top. Ours is the U-Net of the recipe,
MONAI's has its residual units; each is trained at two rates, of which its better one counts. The
networks of a seed are trained one after the other; scores are medians over the seeds, of all cells
of the test items together, averaged over the classes.
"""

import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

from benchmarks.arguments import arguments
from benchmarks.cases import peer
from benchmarks.timing import write_results
from stpatch_jax.data import made_shapes
from stpatch_jax.metrics import Confusion
from stpatch_jax.nn import UNetConfig
from stpatch_jax.tasks import Segment, SegmentConfig

BATCH, DECAY = 4, 1e-3
Trained = tuple[Callable[[np.ndarray], np.ndarray], int, float, int]
"""What says the classes of items, its steps, seconds before the first, and parameters."""


@dataclass(frozen=True)
class Case:
    """Items to train and to test on, `make(seed) -> (fields [item, *cells], masks)`."""

    make: Callable[[int], tuple[np.ndarray, np.ndarray]]
    train: int
    features: tuple[int, ...]


def shapes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Volumes with balls and tubes."""
    fields, masks, _ = made_shapes(seed=seed, items=40, size=20)
    return fields, masks.astype(np.int64)


def digits(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures with digits twice as large as scikit-learn's, of which no two overlap."""
    random = np.random.default_rng(seed)
    known: Any = load_digits()
    fields = 0.3 * random.standard_normal((240, 40, 40)).astype(np.float32)
    masks = np.zeros(fields.shape, np.int64)
    half = len(known.images) // 2
    for at in range(len(fields)):
        for corner in np.ndindex(2, 2):
            # Digits to test on are of other writers.
            one = random.integers(half) + half * (at >= 192)
            ink = np.kron(known.images[one] / 16, np.ones((2, 2)))
            top, left = (20 * edge + random.integers(0, 5) for edge in corner)
            place = at, slice(top, top + 16), slice(left, left + 16)
            fields[place] += ink
            masks[place] = np.where(ink > 0.3, known.target[one] + 1, 0)
    return fields, masks


CASES = {"shapes": Case(shapes, 32, (16, 32)), "digits": Case(digits, 192, (16, 32))}


def batches(count: int, seed: int) -> Iterator[np.ndarray]:
    """Endless batches of items to train on, the same for all networks."""
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(count)
        yield from order[: count // BATCH * BATCH].reshape(-1, BATCH)


def ours(
    case: Case, fields: np.ndarray, masks: np.ndarray, seed: int, seconds: float, *, rate: float
) -> Trained:
    """A U-Net of this package."""
    start = time.process_time()
    counts = np.bincount(masks.ravel()).tolist()
    task = Segment(SegmentConfig(), class_counts=counts)
    shape = (BATCH, 1, *fields.shape[1:], 1)
    config, _ = UNetConfig(side=2, features=case.features).settled(shape[1:-1], 1)
    model = task.build(config, {"field": shape}, rngs=nnx.Rngs(seed))
    rule = optax.inject_hyperparams(optax.adamw)(rate, weight_decay=DECAY)
    optimizer = nnx.Optimizer(
        model, optax.chain(optax.clip_by_global_norm(1.0), rule), wrt=nnx.Param
    )

    @nnx.jit
    def step(model: Any, optimizer: Any, batch: Any, rate: jax.Array) -> None:
        optimizer.opt_state[1].hyperparams["learning_rate"][...] = rate
        gradient = nnx.grad(lambda model: task.loss(model, batch)[0])(model)
        optimizer.update(model, gradient)

    def train(rows: np.ndarray, rate: float) -> None:
        batch = {"field": fields[rows][:, None, ..., None], "label": masks[rows][:, None]}
        step(model, optimizer, jax.tree.map(jnp.asarray, batch), jnp.float32(rate))

    train(np.arange(BATCH), 0.0)
    jax.block_until_ready(nnx.state(model, nnx.Param))
    before, begun, steps = time.process_time() - start, time.process_time(), 0
    for rows in batches(len(fields), seed):
        left = 1 - (time.process_time() - begun) / seconds
        if left <= 0:
            break
        train(rows, rate * left)
        jax.block_until_ready(nnx.state(model, nnx.Param))
        steps += 1
    classes = nnx.jit(lambda model, x: jnp.argmax(model(x), axis=-1)[:, 0])

    def said(x: np.ndarray) -> np.ndarray:
        return np.asarray(classes(model, x[:, None, ..., None]))

    size = sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))
    return said, steps, before, size


def monai(
    case: Case, fields: np.ndarray, masks: np.ndarray, seed: int, seconds: float, *, rate: float
) -> Trained:
    """A U-Net of MONAI."""
    torch: Any = peer("torch")
    networks: Any = importlib.import_module("monai.networks.nets")
    losses: Any = importlib.import_module("monai.losses")
    start = time.process_time()
    torch.manual_seed(seed)
    classes, rank = int(masks.max()) + 1, fields.ndim - 1
    channels = (*case.features, 2 * case.features[-1])
    model = networks.UNet(rank, 1, classes, channels, (2,) * (len(channels) - 1), num_res_units=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=DECAY)
    loss_of = losses.DiceCELoss(softmax=True, to_onehot_y=True)

    def train(rows: np.ndarray, rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, y = torch.from_numpy(fields[rows][:, None]), torch.from_numpy(masks[rows][:, None])
        optimizer.zero_grad()
        loss_of(model(x), y).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    train(np.arange(BATCH), 0.0)
    before, begun, steps = time.process_time() - start, time.process_time(), 0
    for rows in batches(len(fields), seed):
        left = 1 - (time.process_time() - begun) / seconds
        if left <= 0:
            break
        train(rows, rate * left)
        steps += 1
    model.eval()

    def said(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(x[:, None])).argmax(1).numpy()

    return said, steps, before, sum(p.numel() for p in model.parameters())


NETWORKS: dict[str, Callable[..., Trained]] = {"ours": ours, "MONAI": monai}
RATES = (4e-3, 1e-2)


def scores(said: Callable[[np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray) -> Any:
    """Mean Dice and IoU over the classes, of items in batches of those of training."""
    classes, starts = int(y.max()) + 1, range(0, len(x), BATCH)
    found = np.concatenate([said(x[at : at + BATCH]) for at in starts])
    counts = Confusion.of(found.astype(np.int64), y, classes=classes)
    return {"dice": float(counts.macro_f1()), "iou": float(counts.mean_iou())}


def measured(case: Case, *, seeds: int, seconds: float) -> dict[str, Any]:
    """By network, and by rate, its scores seed by seed and their medians."""
    known = [name for name in NETWORKS if name == "ours" or peer("monai")]
    runs: dict[tuple[str, float], list[Any]] = {(name, r): [] for name in known for r in RATES}
    for seed in range(seeds):
        fields, masks = case.make(seed)
        own, rest = slice(case.train), slice(case.train, None)
        for (name, rate), of in runs.items():
            given = case, fields[own], masks[own], seed, seconds
            said, steps, before, size = NETWORKS[name](*given, rate=rate)
            of.append({**scores(said, fields[rest], masks[rest]), "steps": steps})
            of[-1] |= {"seconds_before": before, "parameters": size}
            print(f"seed {seed}, {name}, rate {rate:g}: {of[-1]}", flush=True)
    answers: dict[str, dict[str, Any]] = {name: {} for name in known}
    for (name, rate), of in runs.items():
        medians = {k: float(np.median([one[k] for one in of])) for k in ("dice", "iou", "steps")}
        answers[name][f"{rate:g}"] = {**medians, "seeds": of}
    return answers


def main() -> None:
    """Trains and prints, and writes the results of a whole run."""
    told = {"type": float, "default": 5.0, "help": "CPU seconds of training a network"}
    given = arguments(__doc__ or "", CASES, seeds=3, seconds=told)
    seconds, seeds = (0.2, 1) if given.small else (given.seconds, given.seeds)
    answers = {}
    for name, case in given.cases.items():
        answers[name] = measured(case, seeds=seeds, seconds=seconds)
        for network, rates in answers[name].items():
            found = {rate: round(of["dice"], 4) for rate, of in rates.items()}
            print(f"{name}, {network}: Dice by rate {found}", flush=True)
    answer = {"seconds": seconds, "cases": answers}
    write_results("segmentation", answer, folder=given.results, note=given.note)


if __name__ == "__main__":
    main()
