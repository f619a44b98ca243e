"""The API reference as HTML: the flat names of the package, then a page for each room.

Usage: python .ci/reference.py FOLDER
"""

import sys
from pathlib import Path

from pdoc.__main__ import cli

sys.path.insert(0, str(Path(__file__).parents[1]))  # this package, not an installed one
import stpatch_jax

for name in stpatch_jax.__all__:  # pdoc documents what was asked for before, not what would come.
    getattr(stpatch_jax, name)
rooms = [f"stpatch_jax.{room}" for room in stpatch_jax._ROOMS]
cli(["stpatch_jax", *rooms, "--docformat", "google", "--no-show-source", "-o", sys.argv[1]])
