"""Every notebook runs from top to bottom, and was saved with its outputs and without errors."""

import json
import os
from pathlib import Path
from unittest import mock

import jax
import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def code_cells(path: Path) -> list[dict]:
    cells = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


def quick(path):
    """The first notebook runs in the quick suite, the others train."""
    marks = () if path.stem.startswith("1_") else pytest.mark.slow
    return pytest.param(path, marks=marks, id=path.stem)


@pytest.mark.parametrize("path", [quick(path) for path in NOTEBOOKS])
def test_a_notebook_runs(path):
    names: dict = {"__name__": "__main__"}
    # As in a reader's own session: JAX's defaults, and an environment that is theirs.
    allowed = jax.numpy_rank_promotion("allow")
    with mock.patch.dict(os.environ), allowed, mpl.rc_context({"backend": "agg"}):
        for number, cell in enumerate(code_cells(path)):
            exec(compile("".join(cell["source"]), f"{path.name}[{number}]", "exec"), names)
        plt.close("all")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_saved_with_small_outputs(path):
    outputs = [output for cell in code_cells(path) for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert all(cell["execution_count"] for cell in code_cells(path))
    assert path.stat().st_size < 200_000
