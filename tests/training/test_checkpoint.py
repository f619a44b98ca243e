import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from small_run import digest

import stpatch_jax
from stpatch_jax.errors import InputError
from stpatch_jax.training import Checkpoints, fingerprint

EXTRAS = {"config": {"a": [1, 2.5, None, "ä"]}, "scaler": {"mean": [0.1]}}
ARRAYS = {
    "mean": np.array([[1 / 3, np.nan, -0.0], [1e300, np.inf, 5e-324]]).T,
    "cell": {"name": np.array(["a", "böse"]), "first": np.array("2020-02-29", "M8[ns]")},
    "none": np.zeros((0, 2), np.complex128),
    "large": np.arange(60_000).reshape(300, 200)[::2, ::-1],
}

REPLICATED = PartitionSpec()


def sharding(devices: int, spec: PartitionSpec) -> NamedSharding:
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    return NamedSharding(mesh, spec)


def make_state(devices: int = 8, spec: PartitionSpec = REPLICATED) -> dict[str, Any]:
    """Every kind of leaf, with NaN, infinity and -0.0 among the numbers."""
    key = jax.random.key(1)
    split = sharding(devices, spec)
    whole = sharding(devices, REPLICATED)
    special = jnp.array([jnp.nan, jnp.inf, -0.0, 1e-40, 1, 2, 3, 4])
    return {
        "split": jax.device_put(jax.random.normal(key, (64, 64)), split),
        "half": jax.device_put(jax.random.normal(key, (8, 3)).astype(jnp.bfloat16), split),
        "special": jax.device_put(special, whole),
        "mask": jax.device_put(special > 0, whole),
        "small": jax.device_put(jnp.arange(8, dtype=jnp.int8), whole),
        "complex": jax.device_put(special + 1j, whole),
        "count": jax.device_put(jnp.uint32(7), whole),
        "key": jax.device_put(key, whole),
    }


def abstract(state: Any) -> Any:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


@pytest.mark.parametrize("damage", ["", "_CHECKPOINT_METADATA", "state"])
def test_what_a_killed_command_had_still_to_remove_is_gone_on_the_next_opening(
    tmp_path: Path, damage: str
) -> None:
    """Killed between a save and the removal of the oldest, or within that."""
    state, steps = {"w": jnp.arange(8.0)}, (2, 3, 4, 6, 9)
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        for step in steps:
            checkpoints.save(step, state, {}, metrics={"mae": abs(step - 2.0)})
    other = tmp_path / "3" / damage if damage else None
    if other is not None:
        shutil.rmtree(other) if other.is_dir() else other.unlink()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 9
        assert len(checkpoints.steps) == 5
    with Checkpoints(tmp_path, keep=1, best="min:mae", every=3) as checkpoints:
        assert checkpoints.steps == [2, 9]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "9"]
        assert checkpoints.restore(9, abstract(state))[1] == {}
        checkpoints.save(10, state, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "2", "9"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved")
    with Checkpoints(directory, keep=2) as checkpoints:
        for step in (3, 5, 9):
            checkpoints.save(step, make_state(), EXTRAS, arrays=ARRAYS)
    return directory


def test_every_kind_of_leaf_comes_back_bit_for_bit(saved: Path) -> None:
    state = make_state()
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.latest_step == 9
        assert checkpoints.extras(5) == EXTRAS
        loaded, extras = checkpoints.restore(9, abstract(state))
    assert extras == EXTRAS
    assert digest(loaded) == digest(state)
    assert sorted(path.name for path in saved.iterdir()) == ["5", "9"]


def test_numpy_arrays_come_back_bit_for_bit(saved: Path) -> None:
    with Checkpoints(saved) as checkpoints:
        loaded = checkpoints.arrays(9)
    assert jax.tree.structure(loaded) == jax.tree.structure(ARRAYS)
    for one, other in zip(jax.tree.leaves(loaded), jax.tree.leaves(ARRAYS), strict=True):
        assert type(one) is np.ndarray
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    ("arrays", "where"),
    [
        ({"a": {"b": np.array([None])}}, "ndarray of dtype object at a.b"),
        ({"a": None}, "NoneType of dtype object at a"),
        ({1: np.ones(2)}, "ndarray of dtype float64 at 1"),
        ({"a": [1, 2]}, "int of dtype int64 at a.0"),
        ({"a": jnp.ones(2, jnp.bfloat16)}, "of dtype bfloat16 at a"),
    ],
)
def test_arrays_that_would_not_come_back_are_refused(
    tmp_path: Path, arrays: Any, where: str
) -> None:
    with (
        Checkpoints(tmp_path, keep=1) as checkpoints,
        pytest.raises(InputError, match=f"got .*{where}; convert it first"),
    ):
        checkpoints.save(1, make_state(), EXTRAS, arrays=arrays)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("source", "target"), [(8, 4), (4, 2), (2, 1), (1, 8)])
def test_restores_onto_any_mesh(tmp_path: Path, source: int, target: int) -> None:
    before = make_state(source, PartitionSpec("data"))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, before, {})
        checkpoints.close()
    wanted = make_state(target, PartitionSpec("data"))
    with Checkpoints(tmp_path) as checkpoints:
        loaded, _ = checkpoints.restore(1, abstract(wanted))
    assert digest(loaded) == digest(before)
    for one, other in zip(jax.tree.leaves(loaded), jax.tree.leaves(wanted), strict=True):
        assert one.sharding.is_equivalent_to(other.sharding, one.ndim)


def test_a_save_is_safe_from_donation(tmp_path: Path) -> None:
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    large = jax.device_put(jnp.arange(2.0**20), sharding(8, REPLICATED))
    expected = np.array(large)
    wanted = abstract({"w": large})
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, {"w": large}, {})
        for _ in range(5):
            large = overwrite(large)
    with Checkpoints(tmp_path) as checkpoints:
        loaded, _ = checkpoints.restore(1, wanted)
    np.testing.assert_array_equal(loaded["w"], expected)


def changed(wanted: dict[str, Any], name: str, shape: Any, dtype: Any) -> dict[str, Any]:
    leaf = jax.ShapeDtypeStruct(shape, dtype, sharding=wanted["count"].sharding)
    return wanted | {name: leaf}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: changed(w, "split", (8, 31), jnp.float32),
         r"split is float32\[64, 64\] there and float32\[8, 31\] here"),
        (lambda w: changed(w, "special", (8,), jnp.bfloat16),
         r"special is float32\[8\] there and bfloat16\[8\] here"),
        (lambda w: changed(w, "more", (), jnp.float32), r"more is absent there"),
        (lambda w: {k: v for k, v in w.items() if k != "mask"}, r"mask is bool.* absent here"),
    ],
)  # fmt: skip
def test_another_state_is_named(saved: Path, change: Any, message: str) -> None:
    with Checkpoints(saved) as checkpoints, pytest.raises(InputError, match=message):
        checkpoints.restore(9, change(abstract(make_state())))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


FILES = ("manifest.ocdbt", "d/*", "ocdbt*/d/*")


@pytest.mark.parametrize("damage", [Path.unlink, cut, flip])
@pytest.mark.parametrize(
    "name",
    [
        "_CHECKPOINT_METADATA",
        *(f"{item}/{name}" for item in ("state", "arrays") for name in FILES),
    ],
)
def test_damage_is_one_clear_error(
    tmp_path: Path, saved: Path, capfd: pytest.CaptureFixture[str], damage: Any, name: str
) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(saved, directory)
    damage(max((directory / "9").glob(name), key=lambda path: path.stat().st_size))
    with Checkpoints(directory) as checkpoints:
        with pytest.raises(InputError, match=r"copy/9 must be whole, got .*; delete that folder"):
            checkpoints.restore(9, abstract(make_state()))
        loaded, _ = checkpoints.restore(5, abstract(make_state()))
        assert checkpoints.arrays(5).keys() == ARRAYS.keys()
    assert digest(loaded) == digest(make_state())
    assert capfd.readouterr() == ("", "")


def test_what_orbax_does_not_understand_is_told_apart(tmp_path: Path, saved: Path) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(saved, directory)
    (directory / "9/state/_METADATA").write_text("{}")
    with (
        Checkpoints(directory) as checkpoints,
        pytest.raises(InputError, match=r"copy/9 must be one that Orbax restores, got .+; look at"),
    ):
        checkpoints.restore(9, abstract(make_state()))


def test_what_a_kill_leaves_is_ignored_and_removed(tmp_path: Path, saved: Path) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(saved, directory)
    shutil.copytree(saved / "9", directory / "12.orbax-checkpoint-tmp")
    (directory / "12.orbax-checkpoint-tmp" / "commit_success.txt").unlink()
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.latest_step == 9
    assert (directory / "12.orbax-checkpoint-tmp").exists()
    with Checkpoints(directory, keep=2) as checkpoints:
        checkpoints.save(12, make_state(), EXTRAS)
    assert sorted(path.name for path in directory.iterdir()) == ["12", "9"]


def half_deleted(path: Path) -> None:
    shutil.rmtree(path / "state")


def emptied(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


@pytest.mark.parametrize("remove", [half_deleted, emptied])
def test_half_deleted_checkpoints_are_told_or_removed(
    tmp_path: Path, saved: Path, remove: Any, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(saved, directory)
    # A kill while an old one is removed: nothing reads it, and the next writer removes the rest.
    remove(directory / "5")
    with Checkpoints(directory, keep=1, best="min:mae") as checkpoints:
        assert checkpoints.latest_step == 9
        checkpoints.save(12, make_state(), EXTRAS)
    assert [path.name for path in directory.iterdir()] == ["12"]
    assert not caplog.records
    remove(directory / "12")
    with (
        Checkpoints(directory) as checkpoints,
        pytest.raises(InputError, match=r"copy/12 must be whole, got .*; delete that folder"),
    ):
        checkpoints.restore(12, abstract(make_state()))


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must hold checkpoints, got no such directory"):
        Checkpoints(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"must be writable, got .*workdir="):
        Checkpoints(tmp_path / "file" / "checkpoints", keep=1)
    assert not logging.getLogger("absl").filters


def test_a_failing_write_is_one_clear_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "checkpoints"
    state = make_state()
    checkpoints = Checkpoints(directory, keep=1)
    checkpoints.save(1, state, EXTRAS)
    checkpoints.close()
    checkpoints = Checkpoints(directory, keep=1)
    shutil.move(directory, tmp_path / "moved")
    directory.write_text("in the way")
    with (
        pytest.raises(InputError, match=r"checkpoints must be writable, got .*; make it writable"),
        checkpoints,
    ):
        checkpoints.save(2, state, EXTRAS)
    assert capfd.readouterr() == ("", "")
    with Checkpoints(tmp_path / "moved") as moved:
        assert digest(moved.restore(1, abstract(state))[0]) == digest(state)


def test_other_loggers_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Checkpoints(tmp_path, keep=1):
        logging.getLogger("absl").warning("from elsewhere")
    assert "from elsewhere" in caplog.text
    assert not logging.getLogger("absl").filters


def test_closing_waits_for_what_a_failed_save_leaves_running(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Writer(threading.Thread):
        """A thread of Orbax that writes another part of the save."""

    Writer.__module__ = "orbax.checkpoint.futures"
    close, closing = threading.Event(), threading.Event()

    def write() -> None:
        closing.wait()
        assert not close.wait(0.1)
        logger = logging.getLogger("absl")
        logger.handle(logger.makeRecord("", logging.ERROR, "orbax/a.py", 1, "failed", (), None))

    checkpoints = Checkpoints(tmp_path, keep=1)
    writer = Writer(target=write)
    writer.start()
    closing.set()
    checkpoints.close()
    close.set()
    assert not writer.is_alive()
    assert not caplog.records


def test_the_fingerprint_does_not_depend_on_the_sharding() -> None:
    prints = {
        int(fingerprint(make_state(devices, spec)))
        for devices in (8, 2, 1)
        for spec in (REPLICATED, PartitionSpec("data"))
    }
    assert len(prints) == 1


@given(
    name=st.sampled_from(["split", "half", "special", "mask", "small", "complex"]),
    seed=st.integers(0, 2**31),
)
def test_the_fingerprint_sees_every_bit(name: str, seed: int) -> None:
    state = make_state()
    before = int(fingerprint(state))
    random = np.random.default_rng(seed)
    array = np.array(state[name])
    data = array.view(np.uint8).reshape(-1)
    bit = 1 if array.dtype == bool else 1 << int(random.integers(8))
    data[random.integers(data.size)] ^= bit
    spoiled = state | {name: jax.device_put(array, state[name].sharding)}
    assert int(fingerprint(spoiled)) != before


def test_the_fingerprint_sees_order_and_place() -> None:
    first, second = jnp.arange(4.0), jnp.arange(4.0)[::-1]
    prints = [
        fingerprint({"a": first, "b": second}),
        fingerprint({"a": second, "b": first}),
        fingerprint({"a": first, "b": first}),
        fingerprint({"a": first}),
    ]
    assert len({int(value) for value in prints}) == 4


def test_another_version_is_named_where_the_state_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"count": make_state()["count"]}
    monkeypatch.setattr("stpatch_jax.__version__", "0.0.1")
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state, {})
    monkeypatch.undo()
    now = stpatch_jax.__version__.replace(".", r"\.")
    with Checkpoints(tmp_path) as checkpoints:
        assert digest(checkpoints.restore(1, abstract(state))[0]) == digest(state)
        wanted = changed(abstract(make_state()), "count", (), jnp.int32)
        with pytest.raises(
            InputError, match=rf"by version 0\.0\.1 \(this is {now}\): count is uint32"
        ):
            checkpoints.restore(1, {"count": wanted["count"]})


def test_the_best_and_the_last_due_stay(tmp_path: Path) -> None:
    state = {"count": make_state()["count"]}
    found = {2: 3.0, 4: 1.0, 6: 2.0, 8: float("nan"), 9: 5.0}
    for opened in (list(found)[:3], list(found)[3:]):  # A restart in between.
        with Checkpoints(tmp_path, keep=1, best="min:mae", every=4) as checkpoints:
            for step in opened:
                checkpoints.save(step, state, {}, metrics={"mae": found[step]})
            checkpoints.wait()
            assert checkpoints.steps == {6: [4, 6], 9: [4, 8, 9]}[opened[-1]]
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best_step("min:mae") == 4
        assert checkpoints.best_step("max:mae") == 9
        assert checkpoints.latest_step == 9
