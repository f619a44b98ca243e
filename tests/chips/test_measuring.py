"""The measure of compiled programs: on texts as TPUs and GPUs give them, and compiled here."""

import importlib.util
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.experimental import pallas as pl
from jax.sharding import NamedSharding, PartitionSpec

from stpatch_jax import chips
from stpatch_jax.chips.compiled_text import arrays_of
from stpatch_jax.chips.groups import axes_of, groups_of
from stpatch_jax.flops import count_flops

compilers = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("libtpu", "jax_cuda13_plugin"))),
    reason="the extra chips is not installed",
)
SHAPE = jax.ShapeDtypeStruct
SIZES = SimpleNamespace(
    argument_size_in_bytes=8,
    output_size_in_bytes=4,
    alias_size_in_bytes=4,
    temp_size_in_bytes=2,
)


def measured(text, **more):
    return chips.measure(
        SimpleNamespace(as_text=lambda: text, memory_analysis=lambda: SIZES), **more
    )


@pytest.mark.parametrize(
    ("shape", "logical", "padded", "main"),
    [
        ("f32[]{:T(128)}", 4, 512, True),
        ("f32[33,60,8,3]{1,2,3,0:T(8,128)}", 33 * 60 * 24 * 4, 33 * 3 * 8 * 128 * 4, True),
        ("bf16[300,1000]{1,0:T(8,128)(2,1)S(1)}", 600_000, 304 * 1024 * 2, False),
        ("bf16[100]{0:T(256)(128)(2,1)}", 200, 512, True),
        ("pred[3,5]{1,0:T(32,128)(4,1)}", 15, 32 * 128, True),
        ("s4[8]{0}", 4, 4, True),
        ("f8e4m3fn[2,3]{1,0}", 6, 6, True),
        ("token[]", 0, 0, True),
        ("c64[5]{0}", 40, 40, True),
    ],
)
def test_what_an_array_takes_with_its_padding(shape, logical, padded, main):
    (array,) = arrays_of(shape)
    assert (array.logical, array.padded, array.main) == (logical, padded, main)


# A loop of 12 turns as a TPU's compiler writes it, without its number of turns; in each turn one
# row of 4 KB is cut out and one is put in; before it a copy to the chip that is begun and awaited.
ROWS = "f32[12,8,128]{2,1,0:T(8,128)}"
LOOP = """\
HloModule jit_f, is_scheduled=true

%fused (p0: f32[12,8,128], p1: f32[12,8,128], p2: s32[]) -> f32[12,8,128] {
  %p0 = ROWS parameter(0)
  %p1 = ROWS parameter(1)
  %p2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  %cut = f32[1,8,128]{2,1,0:T(8,128)} dynamic-slice(%p1, %p2, %zero, %zero)
  ROOT %put = ROWS dynamic-update-slice(%p0, %cut, %p2, %zero, %zero)
}

%body (s: STATE) -> STATE {
  %s = STATE parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %a = ROWS get-tuple-element(%s), index=1
  %b = ROWS get-tuple-element(%s), index=2
  %f = ROWS fusion(%a, %b, %i), kind=kLoop, calls=%fused, metadata={op_name="jit(f)/while/body/put"}
  ROOT %t = STATE tuple(%i, %f, %b)
}

%condition (s: STATE) -> pred[] {
  %last = s32[] constant(13)
  %s.1 = STATE parameter(0)
  %i.1 = s32[] get-tuple-element(%s.1), index=0
  ROOT %lt = pred[] compare(%i.1, %last), direction=LT
}

ENTRY %main (x: f32[12,8,128]) -> f32[12,8,128] {
  %x = ROWS parameter(0)
  %first = s32[] constant(1)
  %begun = (f32[12,8,128]{2,1,0:T(8,128)S(1)}, ROWS, u32[]{:S(2)}) copy-start(%x)
  %there = f32[12,8,128]{2,1,0:T(8,128)S(1)} copy-done(%begun)
  %in = STATE tuple(%first, %x, %x)
  %loop = STATE while(%in), condition=%condition, body=%body
  ROOT %out = ROWS get-tuple-element(%loop), index=1
}
""".replace("STATE", "(s32[], ROWS, /*index=2*/ROWS)").replace("ROWS", ROWS)


def test_loops_count_their_turns_and_kernels_the_pieces_they_touch():
    program = measured(LOOP)
    row, whole = 8 * 128 * 4, 12 * 8 * 128 * 4
    copy, turn = program.kernels
    assert (copy.kind, copy.bytes, copy.on_chip, copy.times) == ("copy", whole, whole, 1)
    assert (turn.kind, turn.bytes, turn.times) == ("fusion", 2 * row + 4, 12)
    assert turn.source == "jit(f)/while/body/put"
    assert program.bytes_moved == whole + 12 * (2 * row + 4)
    assert program.launches == 13
    assert program.trips_known
    assert (program.outputs, program.peak) == (0, 10)
    unknown = measured(LOOP.replace("direction=LT", "direction=NE"))
    assert not unknown.trips_known
    assert unknown.launches == 2


def test_room_that_cudnn_works_in_is_not_moved():
    call = "(bf16[8,64]{1,0}, u8[4096]{0}) custom-call(%x), custom_call_target"
    text = f"""
ENTRY %main (x: bf16[8,64]) -> bf16[8,64] {{
  %x = bf16[8,64]{{1,0}} parameter(0)
  ROOT %y = {call}="__cudnn$convForward"
}}
"""
    assert measured(text).bytes_moved == 2 * 8 * 64 * 2


@settings(max_examples=15)
@given(st.data())
def test_groups_are_told_alike_in_every_form(data):
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    joined = data.draw(st.lists(st.sampled_from(range(len(sizes))), unique=True, min_size=1))
    joined = sorted(joined)
    order = [axis for axis in range(len(sizes)) if axis not in joined] + joined
    size = int(np.prod([sizes[axis] for axis in joined]))
    count = int(np.prod(sizes))
    want = np.arange(count).reshape(sizes).transpose(order).reshape(-1, size)
    listed = ",".join("{" + ",".join(map(str, row)) + "}" for row in want.tolist())
    shape = ",".join(map(str, sizes))
    named = ",".join(f"'x{axis}'={n}" for axis, n in enumerate(sizes))
    over = ",".join(f"'x{axis}'" for axis in joined)
    turned = ",".join(map(str, order))
    for text in (
        f"replica_groups={{{listed}}}, dimensions={{0}}",
        f"replica_groups=[{len(want)},{size}]<=[{shape}]T({turned}), channel_id=1",
        f"replica_groups=mesh[{named}] {{{over}}}, use_global_device_ids=true",
    ):
        np.testing.assert_array_equal(groups_of(text, count), want)


def test_parts_of_axes_other_orders_and_permutations():
    half = groups_of("replica_groups=mesh['a'=2,'b'=4] {'b':(2)2}, x", 8)
    np.testing.assert_array_equal(half, [[0, 1], [2, 3], [4, 5], [6, 7]])
    turned = groups_of("replica_groups=mesh['a'=1,'b'=2,'c'=4], device_ids=([4,2]T(1,0)) {'b'}", 8)
    np.testing.assert_array_equal(turned, [[0, 1], [2, 3], [4, 5], [6, 7]])
    mesh = chips.mesh("cpu:8", {"data": 2, "fsdp": 4})
    assert axes_of(turned, mesh) == ("fsdp",)
    around = groups_of("source_target_pairs={{0,4},{4,0},{1,5},{5,1}}", 8)
    assert axes_of(around, mesh) == ("data",)
    assert groups_of("replica_groups={}, to_apply=%add", 8).shape == (1, 8)
    assert groups_of("replica_groups=new[3]", 8) is None


def talk(mesh):
    """A program in which each collective runs, with what a device should send by each."""

    def parts(x):
        summed = lax.psum(x, "data")
        gathered = lax.all_gather(x, "fsdp", tiled=True)
        split = lax.psum_scatter(gathered, "data", tiled=True)
        swapped = lax.all_to_all(x, "fsdp", 0, 0, tiled=True)
        moved = lax.ppermute(x, "data", [(i, (i + 1) % 4) for i in range(4)])
        return summed, gathered, split, swapped, moved

    where = PartitionSpec(("data", "fsdp"))
    x = SHAPE((8 * 256, 128), "float32", sharding=NamedSharding(mesh, where))
    function = jax.shard_map(
        parts, mesh=mesh, in_specs=where, out_specs=(where,) * 5, check_vma=False
    )
    part = 256 * 128 * 4
    return chips.compile(function, x, on=mesh), {
        ("all-reduce", "data"): 2 * part * 3 // 4,
        ("all-gather", "fsdp"): 2 * part * 1 // 2,
        ("reduce-scatter", "data"): 2 * part * 3 // 4,
        ("all-to-all", "fsdp"): part * 1 // 2,
        ("collective-permute", "data"): part,
    }


def test_what_devices_send_by_kind_and_axis():
    mesh = chips.mesh("cpu:8", {"data": 4, "fsdp": 2})
    program, want = talk(mesh)
    found = chips.measure(program, mesh=mesh, flops=80.0)
    # A CPU's compiler may make a sum of which each keeps a part of a whole one.
    sent = dict(found.sent)
    assert {key: sent.get(key) for key in want if key[0] != "reduce-scatter"} == {
        key: n for key, n in want.items() if key[0] != "reduce-scatter"
    }
    assert found.flops == 10
    assert all(one.link is None for one in found.collectives)


def kernel(x, y):
    def body(x_ref, y_ref, out_ref):
        out_ref[...] = jax.numpy.dot(x_ref[...], y_ref[...])

    return lambda **stated: pl.pallas_call(
        body,
        grid=(4, 2),
        in_specs=[
            pl.BlockSpec((128, 256), lambda i, j: (i, 0)),
            pl.BlockSpec((256, 128), lambda i, j: (0, j)),
        ],
        out_specs=pl.BlockSpec((128, 128), lambda i, j: (i, j)),
        out_shape=SHAPE((512, 256), "float32"),
        **stated,
    )(x, y)


MATRICES = SHAPE((512, 256), "float32"), SHAPE((256, 256), "float32")
STATED = pl.CostEstimate(flops=123, bytes_accessed=4567, transcendentals=0)


def test_the_arithmetic_of_a_kernel_is_what_it_states_or_its_grids():
    assert count_flops(lambda x, y: kernel(x, y)(), *MATRICES) == 2 * 512 * 256 * 256
    assert count_flops(lambda x, y: kernel(x, y)(cost_estimate=STATED), *MATRICES) == 123


@pytest.mark.slow
@pytest.mark.chips
@compilers
def test_bytes_of_a_kernel_of_ones_own_on_a_tpu():
    plain = chips.measure(chips.compile(lambda x, y: kernel(x, y)(), *MATRICES, on="v5e"))
    assert plain.bytes_moved + plain.bytes_on_chip >= (2 * 512 + 256) * 256 * 4
    stated = chips.compile(lambda x, y: kernel(x, y)(cost_estimate=STATED), *MATRICES, on="v5e")
    assert chips.measure(stated).bytes_moved == 4567


@pytest.mark.slow
@pytest.mark.chips
@compilers
@pytest.mark.parametrize("name", ["v5e", "v5p", "v6e"])
def test_bytes_are_those_of_the_compiler_of_a_tpu(name):
    convolve = lambda x, w: jax.nn.relu(  # noqa: E731
        lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    )
    for function, *shapes in (
        (lambda x: x + 1, SHAPE((1000, 60, 3), "float32")),
        (lambda x, y: (x * y + 1).astype("bfloat16"), *[SHAPE((8, 1000, 500), "float32")] * 2),
        (lambda x: x[:, 8:520] * 2, SHAPE((8, 1024, 1024), "float32")),
        (convolve, SHAPE((16, 28, 28, 128), "bfloat16"), SHAPE((3, 3, 128, 128), "bfloat16")),
    ):
        compiled = chips.compile(function, *shapes, on=name)
        program = chips.measure(compiled)
        told = compiled.cost_analysis()["bytes accessed"]
        # It counts a copy in the background at its begin and its end.
        told -= sum(x.bytes + x.on_chip for x in program.kernels if x.kind == "copy")
        assert abs(program.bytes_moved + program.bytes_on_chip - told) <= 0.1 * told


@pytest.mark.slow
@pytest.mark.chips
@compilers
@pytest.mark.parametrize("name", ["v5e:2x4", "h100:8"])
def test_devices_of_every_chip_send_the_same(name):
    mesh = chips.mesh(name, {"data": 4, "fsdp": 2})
    program, want = talk(mesh)
    found = chips.measure(program, mesh=mesh)
    assert {**found.sent} | want == {**found.sent}
    assert {one.link for one in found.collectives} == {"ici" if name[0] == "v" else "nvlink"}


@pytest.mark.slow
@pytest.mark.chips
@compilers
def test_what_a_sum_costs_between_hosts_is_shared_by_their_gpus():
    mesh = chips.mesh("h100:4x2", {"data": -1})
    x = SHAPE((8, 1024), "float32", sharding=NamedSharding(mesh, PartitionSpec("data")))
    found = chips.measure(chips.compile(lambda x: x.sum(0), x, on=mesh), mesh=mesh)
    (one,) = found.collectives
    # Of two hosts each sends half of the 4 KB twice, a quarter of it by each of its GPUs.
    assert (one.kind, one.link, one.bytes) == ("all-reduce", "network", 2 * 4096 // 2 // 4)


@pytest.mark.slow
@pytest.mark.chips
@compilers
def test_what_slices_tell_each_other_goes_over_the_network():
    mesh = chips.mesh("2*v5e:2x2", {"data": 2, "fsdp": 4})
    x = SHAPE((8, 1024), "float32", sharding=NamedSharding(mesh, PartitionSpec("data", "fsdp")))
    found = chips.measure(chips.compile(lambda x: x.sum(0), x, on=mesh), mesh=mesh)
    # A device of each slice has a quarter of the 4 KB.
    assert [(x.kind, x.axes, x.link, x.bytes) for x in found.collectives] == [
        ("all-reduce", ("data",), "network", 1024)
    ]
