"""Data: readers, cleaning, scaling, chronological splits, panels and step-indexed sampling."""

from stpatch_jax.data.panels import PanelConfig, PanelData
from stpatch_jax.data.sampling import Batch, Source, batch_iterator, sequential_batches
from stpatch_jax.data.scaling import StandardScaler
from stpatch_jax.data.splits import chronological_splits, window_starts
from stpatch_jax.data.tables import PriceTable, read_price_table

__all__ = [
    "Batch",
    "PanelConfig",
    "PanelData",
    "PriceTable",
    "Source",
    "StandardScaler",
    "batch_iterator",
    "chronological_splits",
    "read_price_table",
    "sequential_batches",
    "window_starts",
]
