"""Data: readers, cleaning, scaling, splits, windows, step-indexed sampling, catalog, writers."""

from typing import TYPE_CHECKING

from stpatch_jax.on_demand import on_demand

if TYPE_CHECKING:
    from stpatch_jax.data.catalog import CATALOG, CatalogEntry, locate
    from stpatch_jax.data.characters import Characters, CharactersConfig
    from stpatch_jax.data.fields.alerts import AlertConfig
    from stpatch_jax.data.fields.choosing import found_seasons
    from stpatch_jax.data.fields.cleaning import Cleaner, CleaningConfig, hampel_filter
    from stpatch_jax.data.fields.climatology import (
        Climatology,
        interpolate,
        with_climatology,
        with_space_means,
    )
    from stpatch_jax.data.fields.contents import field_content
    from stpatch_jax.data.fields.forcings import calendar_features
    from stpatch_jax.data.fields.parts import FieldParts, FieldPartsConfig
    from stpatch_jax.data.fields.problem import FieldConfig, FieldData
    from stpatch_jax.data.fields.rolling import RuleWeight, rolling_rules, rolling_weight
    from stpatch_jax.data.fields.slabs import SlabReader
    from stpatch_jax.data.fields.windows import FieldWindows
    from stpatch_jax.data.fields.writers import forecast_dataset, write_csv, write_table
    from stpatch_jax.data.file_config import FileConfig, TableConfig
    from stpatch_jax.data.identity import FieldIdentity
    from stpatch_jax.data.labelled.augmenting import Augmentation
    from stpatch_jax.data.labelled.boxed import BoxedConfig, BoxedFields, UnboxedFields
    from stpatch_jax.data.labelled.clips import (
        LabelledClips,
        LabelledClipsConfig,
        resized,
        segments,
        side_by_side,
    )
    from stpatch_jax.data.labelled.config import ItemConfig, LabelledConfig, MeasuredConfig
    from stpatch_jax.data.labelled.fields import (
        LabelledFields,
        LabelledSplit,
        MeasuredFields,
        UnlabelledFields,
        drawn_share,
        k_fold,
    )
    from stpatch_jax.data.labelled.files import LabelledSeriesConfig, LabelledVolumesConfig
    from stpatch_jax.data.labelled.segmented import (
        SegmentedFields,
        SegmentedFieldsConfig,
        UnsegmentedFields,
    )
    from stpatch_jax.data.labelled.shapes import made_shapes
    from stpatch_jax.data.labelled.texts import Evidence, evidence_fields
    from stpatch_jax.data.named_windows import NamedWindows, windows
    from stpatch_jax.data.prices.problem import PanelConfig, PanelData, mask_impossible
    from stpatch_jax.data.prices.tables import PriceTable, read_price_table
    from stpatch_jax.data.protocols import (
        CATALOG_PREFIX,
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
        chosen_split,
        located,
        stored_encoding,
        truth,
    )
    from stpatch_jax.data.readers import (
        LabelledItems,
        open_field,
        read_folder,
        read_labelled_arrays,
        read_labelled_lines,
        read_labelled_series,
        read_labelled_table,
        read_lines,
    )
    from stpatch_jax.data.readers.conventions import notes_of
    from stpatch_jax.data.readers.guard import parsing
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
    from stpatch_jax.data.sampling.spacing import gaps_report, spaced, warn_of_gaps
    from stpatch_jax.data.sampling.splits import (
        chronological_splits,
        rows_through,
        spans_between_gaps,
        split_by_rows,
        splits_report,
        window_starts,
    )
    from stpatch_jax.data.sizes import check_bytes, file_content
    from stpatch_jax.data.times import TimeAxis
    from stpatch_jax.data.transforms.cleaning import nan_quantiles
    from stpatch_jax.data.transforms.pipeline import Pipeline
    from stpatch_jax.data.transforms.steps import Affine, Log, Log1p, Transform, Winsorizer

__all__ = [
    "CATALOG",
    "CATALOG_PREFIX",
    "EVERYTHING",
    "Affine",
    "AlertConfig",
    "Augmentation",
    "AugmentedSource",
    "Batch",
    "BlockShuffle",
    "BoxedConfig",
    "BoxedFields",
    "CatalogEntry",
    "Characters",
    "CharactersConfig",
    "Cleaner",
    "CleaningConfig",
    "Climatology",
    "Data",
    "DataConfig",
    "Evidence",
    "FieldConfig",
    "FieldData",
    "FieldIdentity",
    "FieldParts",
    "FieldPartsConfig",
    "FieldWindows",
    "FileConfig",
    "ForecastData",
    "InputAxes",
    "ItemConfig",
    "LabelledClips",
    "LabelledClipsConfig",
    "LabelledConfig",
    "LabelledData",
    "LabelledFields",
    "LabelledItems",
    "LabelledSeriesConfig",
    "LabelledSplit",
    "LabelledVolumesConfig",
    "Log",
    "Log1p",
    "MadeExamples",
    "MeasuredConfig",
    "MeasuredData",
    "MeasuredFields",
    "NamedWindows",
    "ObjectData",
    "PanelConfig",
    "PanelData",
    "Pipeline",
    "PriceTable",
    "Problem",
    "RuleWeight",
    "Sampler",
    "SegmentedFields",
    "SegmentedFieldsConfig",
    "SlabReader",
    "Source",
    "TableConfig",
    "TextData",
    "TimeAxis",
    "Transform",
    "UnboxedFields",
    "UnlabelledFields",
    "UnsegmentedFields",
    "Winsorizer",
    "batch_iterator",
    "calendar_features",
    "check_bytes",
    "chosen_split",
    "chronological_splits",
    "drawn_share",
    "evidence_fields",
    "field_content",
    "file_content",
    "forecast_dataset",
    "found_seasons",
    "gaps_report",
    "hampel_filter",
    "interpolate",
    "k_fold",
    "locate",
    "located",
    "made_shapes",
    "mask_impossible",
    "nan_quantiles",
    "notes_of",
    "open_field",
    "parsing",
    "read_folder",
    "read_labelled_arrays",
    "read_labelled_lines",
    "read_labelled_series",
    "read_labelled_table",
    "read_lines",
    "read_price_table",
    "resized",
    "rolling_rules",
    "rolling_weight",
    "rows_through",
    "segments",
    "sequential_batches",
    "side_by_side",
    "spaced",
    "spans_between_gaps",
    "split_by_rows",
    "splits_report",
    "stored_encoding",
    "truth",
    "warn_of_gaps",
    "window_starts",
    "windows",
    "with_climatology",
    "with_space_means",
    "write_csv",
    "write_table",
]  # fmt: skip

__getattr__, __dir__ = on_demand(__name__)
