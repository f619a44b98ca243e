"""What a run will cost on described chips, read off its compiled programs."""

import dataclasses
import functools
import importlib.util
import json
import types

import jax
import numpy as np
import pytest
import xarray as xr
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as some

import stpatch_jax as st
from stpatch_jax import InputError, chips, cli
from stpatch_jax.data import FieldConfig
from stpatch_jax.flops import count_flops
from stpatch_jax.inference.job import TiledJob
from stpatch_jax.inference.program import run
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.runs import Run, RunConfig
from stpatch_jax.runs.planning.plan import _fitted
from stpatch_jax.runs.planning.programs import Cost, predict_cost
from stpatch_jax.runs.planning.telling import told
from stpatch_jax.tasks import ForecastConfig
from stpatch_jax.training import MeshConfig, TrainConfig, create_state, make_train_step
from stpatch_jax.training.mesh import shard_global_batch

FIELD = np.random.default_rng(0).normal(size=(120, 3, 1)).astype(np.float32)


def a_config(batch_size: int = 16, **mesh: int) -> RunConfig:
    data, train = FieldConfig(context=6, horizon=2), TrainConfig(4, batch_size)
    train = dataclasses.replace(train, mesh=MeshConfig(**mesh))
    return RunConfig(data, FlatPatchesConfig(), ForecastConfig(), train, recipe="own")


def a_cost(total: int, seconds=(1.0, 4.0, 2.0), capacity: int | None = 2**34, **more) -> Cost:
    names = ["arithmetic", "memory", "network"]
    named = dict(zip(names, seconds, strict=False))
    return Cost({"total": total}, capacity, 1e9, 1e9, 10**9, {}, named, **{"examples": 8, **more})


def test_a_plan_tells_what_the_step_of_the_run_itself_needs(tmp_path):
    config = a_config(fsdp=8)
    plan = st.plan(config, on="cpu:8", data=FIELD, changes=False, workdir=tmp_path, progress=False)
    run = Run(config, data=FIELD)
    state = create_state(run.create_model, config.train, run.mesh)
    batch = shard_global_batch({k: np.repeat(x, 16, 0) for k, x in run.example.items()}, run.mesh)
    step = make_train_step(run.task.loss, run.mesh)
    with jax.set_mesh(run.mesh):
        assert plan.train.memory["total"] == step.memory(state, batch)
    first = jax.devices()[0]

    def held(tree) -> int:
        shards = (x.addressable_shards for x in jax.tree.leaves(tree))
        return sum(s.data.nbytes for of in shards for s in of if s.device == first)

    # The counts of steps and of skipped ones are no weights.
    assert plan.train.memory["weights"] == held(nnx.state(state.model))
    parts = ("optimizer", "weights")
    assert sum(plan.train.memory[part] for part in parts) == held(nnx.state(state))
    assert plan.train.memory["inputs"] == held(batch)
    assert plan.train.flops == run.flops * 16 / 8
    assert plan.evaluate is not None
    assert plan.evaluate.flops < plan.train.flops
    assert any("over fsdp" in kind for kind in plan.train.sent)
    assert json.loads((tmp_path / "plan.json").read_text()) == plan.values
    assert (tmp_path / "plan.md").read_text() == plan.report
    assert "the peaks of a CPU are not known" in plan.report


@pytest.fixture
def predicted(monkeypatch) -> list[tuple[TiledJob, jax.Array]]:
    """What `predict_field` ran: the programs, and what was given to them."""
    ran, run = [], TiledJob.run

    def noted(job: TiledJob, field: jax.Array) -> jax.Array:
        ran.append((job, field))
        return run(job, field)

    monkeypatch.setattr(TiledJob, "run", noted)
    return ran


def covariates() -> xr.Dataset:
    times = np.datetime64("2024-01-01", "h") + np.arange(len(FIELD))
    named = dict.fromkeys(("load", "rain"), (("time", "cell"), FIELD[..., 0]))
    return xr.Dataset(
        {**named, "height": (("cell",), np.arange(3.0, dtype=np.float32))}, {"time": times}
    )


COVARIATES = {"targets": ("load",), "known": ("rain",), "static": ("height",)}


@pytest.mark.parametrize(
    ("data", "roles", "quantiles"), [(FIELD, {}, ()), (covariates(), COVARIATES, (0.1, 0.9))]
)
def test_a_plan_tells_the_program_that_predicts_the_field_of_the_run(
    predicted, tmp_path, data, roles, quantiles
):
    config = a_config()
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, **roles),
        task=dataclasses.replace(config.task, quantiles=quantiles),
    )
    plan = st.plan(config, on="cpu:8", data=data, changes=False, progress=False)
    trained = st.train(config, data=data, workdir=tmp_path, progress=False)
    trained.predict(data, every=1)
    [(job, slab)] = predicted
    # Rain is not known behind the file: the last forecast is the one that ends with it.
    forecasts = len(FIELD) - 6 + 1 - 2 * bool(roles)
    assert plan.values["field"] == {
        "regions": 1,
        "forecasts": forecasts,
        "windows": job.program.batch_size,
        "slab": list(slab.shape),
    }
    flops = count_flops(functools.partial(run, job.program), *job.arguments(slab))
    program = chips.measure(job.compiled(slab))
    assert plan.predict is not None
    assert (plan.predict.flops, plan.predict.moved) == (flops, program.bytes_moved)
    sizes = program.arguments, program.outputs, program.temporaries
    assert plan.predict.memory["total"] == max(program.peak, sum(sizes))
    assert plan.predict.examples == forecasts
    assert f"1 region of {forecasts}, each on one device" in plan.report
    assert "| region of a field |" in plan.report


@pytest.mark.parametrize(("memory", "windows"), [(2**20, 115), (2**15, 50), (2**12, 1)])
def test_a_region_has_as_many_windows_at_once_as_fit(memory, windows):
    topology = chips.topology("cpu:1")
    small = dataclasses.replace(topology.chip, memory=memory)
    mesh = chips.mesh("cpu:1", {"data": 1, "fsdp": 1})
    own = Run(a_config(), data=FIELD, mesh=mesh)
    found = predict_cost(own, dataclasses.replace(topology, chip=small))
    assert found is not None
    cost, field = found
    assert field["windows"] == windows
    assert cost.fits == (windows > 1)


def test_a_task_whose_predictions_have_no_regions_has_no_such_program():
    x, y = FIELD.transpose(1, 0, 2).repeat(8, axis=0), np.arange(24) % 2
    plan = st.plan("classify", on="cpu:1", data=(x, y), changes=False, progress=False)
    assert plan.evaluate is not None
    assert (plan.predict, plan.values["predict"], plan.values["field"]) == (None, None, None)
    assert "region" not in plan.report


def test_the_slowest_of_arithmetic_memory_and_network_bounds_a_step():
    cost = a_cost(2**30)
    assert (cost.binds, cost.step, cost.utilization, cost.examples_per_second) == (
        "memory",
        4,
        0.25,
        2,
    )
    unknown = a_cost(2**30, (), None)
    assert unknown.fits
    assert (unknown.binds, unknown.step, unknown.utilization) == (None, None, None)


def test_what_does_not_fit_says_by_how_much():
    cost = a_cost(20 * 2**30, ())
    rows = {"remat=dots": a_cost(2**33).values(), "dtype=x": None}
    values = {"recipe": "own", "on": "v5e", "devices": 1, "hosts": 1, "mesh": {"data": 1}}
    values |= {
        "batch_size": 8,
        "parameters": 5,
        "flops_per_example": 1,
        "chosen": {},
        "dtype": None,
        "platform": "gpu",
    }
    values |= {"settings": {}, "train": cost.values(), "evaluate": None, "tried": rows}
    values |= {"predict": None, "field": None}
    text = told(values)
    assert "**Does not fit: 20 of 16 GiB a device, 4 GiB too many.**" in text
    assert "| remat=dots | yes | 8 | 4000 | 25 | 2 |" in text
    assert "| dtype=x | refused | - | - | - | - |" in text
    assert "without the room that cuDNN takes" in text


@settings(max_examples=10)
@given(some.integers(0, 2**35), some.integers(2**20, 2**32), some.integers(3, 2**20))
def test_the_batch_that_is_found_fits_and_twice_as_much_does_not(held, each, examples):
    devices, programs = 64, []

    def cost(settings):
        programs.append(settings)
        trials.run.config.train.examples = devices
        shared = held // settings["train.mesh.fsdp"]
        saved = 2 if "train.remat" in settings else 1
        return a_cost(shared + settings["train.batch_size"] // devices * each // saved)

    train = types.SimpleNamespace(examples=devices, accumulate=1, mesh=MeshConfig(), remat="none")
    config = types.SimpleNamespace(train=train)
    run = types.SimpleNamespace(config=config, data=types.SimpleNamespace(source=[0] * 0))
    run.abstract = nnx.Module()
    run.data.source = lambda _: range(examples)
    trials = types.SimpleNamespace(on=types.SimpleNamespace(devices=range(devices)))
    trials.config, trials.run, trials.cost = config, run, cost
    found = _fitted(trials)  # pyright: ignore[reportArgumentType]
    assert cost(found).fits
    more = {**found, "train.batch_size": 2 * found["train.batch_size"]}
    assert more["train.batch_size"] > max(examples, devices) or not cost(more).fits
    if found["train.mesh.fsdp"] > 1:
        assert not cost({**found, "train.mesh.fsdp": 1, "train.batch_size": devices}).fits
    assert len(programs) < 24


@pytest.mark.parametrize(
    ("on", "told", "changed"),
    [
        (None, "on= must name a topology", {}),
        ("v9:4", "one such as v5e:16x16", {}),
        ("cpu:6", "the global batch size must be a multiple of 6", {}),
        ("cpu:8", "the mesh must multiply to the 8 devices of cpu:8", {"train.mesh.fsdp": 3}),
        ("cpu:8", "must come with a chip whose memory is known", {"fit": True}),
    ],
)
def test_what_does_not_fit_together_is_refused(on, told, changed):
    with pytest.raises(InputError, match=told):
        st.plan(a_config(), on=on, data=FIELD, progress=False, **changed)


def test_a_command_without_chips_is_refused_in_a_sentence(capsys):
    assert cli.main(["plan", "stocks"]) == 2
    assert "--on must name a topology, got none" in capsys.readouterr().err
    assert cli.main(["plan", "stocks", "--on", "v5e:99x99", "--fit"]) == 2
    assert capsys.readouterr().err.startswith("a slice of v5e must have 2 sides up to 16x16, got")


@pytest.mark.slow
@pytest.mark.chips
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="the extra chips is not there")
def test_a_run_is_planned_for_chips_that_are_not_here():
    plan = st.plan(a_config(), on="v5e:2x2", data=FIELD, progress=False, changes=False)
    assert plan.train.fits
    assert plan.train.binds in ("memory", "network")
    assert 0 < plan.train.utilization < 1
    # Gradients in float32 twice around a ring of 4, and a few numbers beside them.
    weights = 4 * plan.values["parameters"]
    assert weights <= plan.train.sent["all-reduce over data"] / 1.5 < 1.5 * weights
    assert plan.predict is not None
    assert plan.predict.fits
    assert plan.predict.step
    large = st.plan(a_config(2**30), on="v5e:2x2", data=FIELD, progress=False, changes=False)
    assert "**Does not fit: " in large.report
    assert (large.evaluate, large.predict) == (None, None)


@pytest.mark.slow
@pytest.mark.chips
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="the extra chips is not there")
def test_windows_of_a_call_stay_beside_the_cores_of_a_tpu():
    """What a region moves is some times its field, not some times all that is made of it."""
    times = np.datetime64("2024-01-01", "ns") + np.arange(200) * np.timedelta64(1, "h")
    values = np.random.default_rng(0).normal(size=(200, 40, 60)).astype(np.float32)
    field = xr.DataArray(values, {"time": times}, ("time", "y", "x"), "t2m", {"units": "K"})
    config = st.recipes.recipe("weather")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=None))
    mesh = chips.mesh("v5e:1", {"data": 1, "fsdp": 1})
    found = predict_cost(Run(config, data=field, mesh=mesh), chips.topology("v5e:1"))
    assert found is not None
    cost, _ = found
    assert cost.moved is not None
    assert cost.moved < 60 * cost.memory["inputs"]
