"""Data: readers, cleaning, scaling, splits, windows, step-indexed sampling, catalog, writers."""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.data.catalog import CATALOG, CatalogEntry, locate
    from stpatch_jax.data.characters import Characters, CharactersConfig
    from stpatch_jax.data.fields.alerts import AlertConfig
    from stpatch_jax.data.fields.cleaning import Cleaner, CleaningConfig, hampel_filter
    from stpatch_jax.data.fields.climatology import Climatology, interpolate
    from stpatch_jax.data.fields.combining import Combination
    from stpatch_jax.data.fields.forcings import calendar_features
    from stpatch_jax.data.fields.parts import FieldParts, FieldPartsConfig
    from stpatch_jax.data.fields.problem import FieldConfig, FieldData
    from stpatch_jax.data.fields.rolling import RuleWeight
    from stpatch_jax.data.fields.slabs import SlabReader
    from stpatch_jax.data.fields.windows import FieldWindows
    from stpatch_jax.data.fields.writers import forecast_dataset
    from stpatch_jax.data.file_config import FileConfig, TableConfig
    from stpatch_jax.data.identity import FieldIdentity
    from stpatch_jax.data.labelled.augmenting import Augmentation
    from stpatch_jax.data.labelled.boxed import BoxedConfig, BoxedFields, UnboxedFields
    from stpatch_jax.data.labelled.clips import LabelledClips, LabelledClipsConfig
    from stpatch_jax.data.labelled.config import ItemConfig, LabelledConfig, MeasuredConfig
    from stpatch_jax.data.labelled.fields import (
        LabelledFields,
        LabelledSplit,
        MeasuredFields,
        UnlabelledFields,
        k_fold,
    )
    from stpatch_jax.data.labelled.files import LabelledSeriesConfig, LabelledVolumesConfig
    from stpatch_jax.data.labelled.segmented import (
        SegmentedFields,
        SegmentedFieldsConfig,
        UnsegmentedFields,
    )
    from stpatch_jax.data.labelled.shapes import made_shapes
    from stpatch_jax.data.labelled.texts import Evidence
    from stpatch_jax.data.named_windows import NamedWindows, windows
    from stpatch_jax.data.prices.problem import PanelConfig, PanelData
    from stpatch_jax.data.prices.tables import PriceTable, read_price_table
    from stpatch_jax.data.protocols import (
        EVERYTHING,
        Data,
        DataConfig,
        ForecastData,
        InputAxes,
        LabelledData,
        MeasuredData,
        ObjectData,
        Problem,
        TextData,
    )
    from stpatch_jax.data.readers import (
        LabelledItems,
        open_field,
        read_folder,
        read_labelled_lines,
        read_labelled_table,
    )
    from stpatch_jax.data.sampling.batches import (
        AugmentedSource,
        Batch,
        MadeExamples,
        Sampler,
        Source,
        batch_iterator,
        sequential_batches,
    )
    from stpatch_jax.data.sampling.samplers import BlockShuffle
    from stpatch_jax.data.sampling.splits import chronological_splits, window_starts
    from stpatch_jax.data.times import TimeAxis
    from stpatch_jax.data.transforms.pipeline import Pipeline
    from stpatch_jax.data.transforms.steps import Affine, Log, Log1p, Transform, Winsorizer

__all__ = [
    "CATALOG", "EVERYTHING", "Affine", "AlertConfig", "Augmentation", "AugmentedSource", "Batch",
    "BlockShuffle", "BoxedConfig", "BoxedFields", "CatalogEntry", "Characters", "CharactersConfig",
    "Cleaner", "CleaningConfig", "Climatology", "Combination", "Data", "DataConfig", "Evidence",
    "FieldConfig", "FieldData", "FieldIdentity", "FieldParts", "FieldPartsConfig", "FieldWindows",
    "FileConfig", "ForecastData", "InputAxes", "ItemConfig", "LabelledClips", "LabelledClipsConfig",
    "LabelledConfig", "LabelledData", "LabelledFields", "LabelledItems", "LabelledSeriesConfig",
    "LabelledSplit", "LabelledVolumesConfig", "Log", "Log1p", "MadeExamples", "MeasuredConfig",
    "MeasuredData", "MeasuredFields", "NamedWindows", "ObjectData", "PanelConfig", "PanelData",
    "Pipeline", "PriceTable", "Problem", "RuleWeight", "Sampler", "SegmentedFields",
    "SegmentedFieldsConfig", "SlabReader", "Source", "TableConfig", "TextData", "TimeAxis",
    "Transform", "UnboxedFields", "UnlabelledFields", "UnsegmentedFields", "Winsorizer",
    "batch_iterator", "calendar_features", "chronological_splits", "forecast_dataset",
    "hampel_filter", "interpolate", "k_fold", "locate", "made_shapes", "open_field", "read_folder",
    "read_labelled_lines", "read_labelled_table",
    "read_price_table", "sequential_batches", "window_starts", "windows",
]  # fmt: skip

__getattr__, __dir__ = on_demand(__name__)
