"""What windows cost: counted parameters and arithmetic against those of the real thing."""

import jax
import numpy as np
import pytest
from flax import nnx
from small_fields import small_field

from stpatch_jax import WindowSpec, cli
from stpatch_jax.nn import FlatPatchesConfig, PatchTransformerConfig
from stpatch_jax.nn.costs import nearby_windows, window_cost, window_costs, windowed_backbones


def test_the_cost_is_that_of_the_backbone():
    spec = WindowSpec((2, 4, 4), stride=(2, 2, 4))
    cost = window_cost((8, 8, 12), spec, PatchTransformerConfig.tiny, channels=3)
    model = nnx.eval_shape(lambda: PatchTransformerConfig.tiny(spec).build(3, rngs=nnx.Rngs(0)))
    params = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert cost.parameters == sum(leaf.size for leaf in params)
    assert cost.grid == spec.grid_shape((8, 8, 12)) == (4, 3, 3)
    assert (cost.patches, cost.values_per_patch) == (36, 96)
    assert cost.patch_bytes == 36 * 96 * 4
    # Two blocks of width 16 with an MLP of 32: forward and twice that backward, but for the field.
    tokens, embed = 36, 96 * 16
    linear = tokens * 2 * (3 * 16 * 16 + 16 * 16 + 2 * 16 * 32)
    attention = 2 * 2 * tokens**2 * 16
    assert cost.flops == 2 * (3 * (linear + attention) + 2 * tokens * embed)
    assert cost.memory is None


def test_costs_are_listed_by_arithmetic_and_what_does_not_fit_is_left_out():
    specs = nearby_windows(WindowSpec((4, 4)), (8, 6))
    assert WindowSpec((4, 4), stride=(4, 4)) in specs
    assert all(spec.window_shape((8, 6))[1] <= 6 for spec in specs)
    assert len(specs) == 12
    costs = window_costs((8, 6), [*specs[:2], (16, 1)], PatchTransformerConfig.tiny)
    assert len(costs) == 2
    assert [cost.flops for cost in costs] == sorted(cost.flops for cost in costs)
    flat = window_cost((8, 6), (4, 3), FlatPatchesConfig)
    assert (flat.parameters, flat.flops) == (0, 0)


def test_the_command_lists_costs(tmp_path, capsys):
    path = tmp_path / "small.nc"
    field = small_field((10, 4, 4), channels=("t2m",))
    field.isel(channel=0, drop=True).rename("t2m").drop_attrs().to_netcdf(path)
    command = ["patches", str(path), "--window", "2", "2", "2", "--backbone", "flat_patches"]
    assert cli.main([*command, "--costs", "4"]) == 0
    told = capsys.readouterr().out
    assert "flat_patches with 2 x 2 x 2: 8 tokens (2 x 2 x 2), 0 parameters" in told
    marked = [line for line in told.splitlines() if line.endswith("<")]
    assert len(marked) == 1
    assert marked[0].split()[:10] == ["2", "x", "2", "x", "2"] * 2
    assert cli.main([*command, "--costs", "11"]) == 2
    assert (
        "--costs, the time steps of an example, must be in [1, 10], got 11"
        in capsys.readouterr().err
    )


def test_every_backbone_that_cuts_windows_can_be_asked_for(tmp_path, capsys):
    names = ("conv_recurrent", "flat_patches", "patch_cnn", "patch_transformer", "unet")
    assert windowed_backbones().keys() >= set(names)
    for name in names:
        cost = window_cost((2, 4, 4), (2, 2, 2), windowed_backbones()[name].tiny)
        assert cost.patches == 4
    path = tmp_path / "small.npz"
    np.savez(path, values=np.zeros((4, 4), np.float32))
    command = ["patches", str(path), "--window", "2", "2", "--costs", "2", "--backbone", "scnn"]
    assert cli.main([*command, "--data.dims", "time", "x"]) == 2
    assert "--backbone must be 'conv_recurrent'" in capsys.readouterr().err


@pytest.mark.slow
def test_memory_is_the_compilers():
    cost = window_cost((8, 8), (2, 2), PatchTransformerConfig.tiny, memory=True)
    assert cost.memory is not None
    assert cost.memory > 4 * cost.parameters * 2
    assert np.isfinite(cost.memory)
