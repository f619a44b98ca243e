"""Search over the settings of a recipe, grid or random, judged on the validation split alone."""

from stpatch_jax.runs.searching.space import LogUniform, Space, read_space, with_values
from stpatch_jax.runs.searching.trials import Trial, search, table

__all__ = ["LogUniform", "Space", "Trial", "read_space", "search", "table", "with_values"]
