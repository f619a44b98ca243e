"""Data: readers, cleaning, scaling, splits, windows, step-indexed sampling, catalog, writers."""

from stpatch_jax.data.alerts import AlertConfig
from stpatch_jax.data.anomalies import with_climatology, with_space_means
from stpatch_jax.data.augmenting import Augmentation
from stpatch_jax.data.catalog import CATALOG, CatalogEntry, locate
from stpatch_jax.data.characters import Characters, CharactersConfig
from stpatch_jax.data.customers import Customers, CustomersConfig
from stpatch_jax.data.digit_clips import (
    ClipClasses,
    ClipClassesConfig,
    ClipObjects,
    ClipObjectsConfig,
    NextFrames,
    NextFramesConfig,
)
from stpatch_jax.data.field_cleaning import Cleaner, CleaningConfig
from stpatch_jax.data.field_data import FieldConfig, FieldData
from stpatch_jax.data.field_reading import SlabReader
from stpatch_jax.data.field_windows import FieldWindows
from stpatch_jax.data.folds import k_fold
from stpatch_jax.data.forcings import calendar_features
from stpatch_jax.data.labelled import LabelledFields, LabelledSplit, UnlabelledFields
from stpatch_jax.data.labelled_clips import LabelledClips, LabelledClipsConfig
from stpatch_jax.data.labelled_configs import LabelledSeriesConfig, MovementConfig
from stpatch_jax.data.labelled_text import LabelledTextConfig
from stpatch_jax.data.labelled_volumes import LabelledVolumesConfig
from stpatch_jax.data.missing import Climatology, interpolate
from stpatch_jax.data.on_device import DeviceWindows
from stpatch_jax.data.outliers import hampel_filter
from stpatch_jax.data.panels import PanelConfig, PanelData
from stpatch_jax.data.pipeline import Pipeline
from stpatch_jax.data.problem import (
    Data,
    DataConfig,
    ForecastData,
    LabelledData,
    ObjectData,
    truth,
)
from stpatch_jax.data.readers import (
    LabelledItems,
    Tokenizer,
    open_field,
    read_folder,
    read_labelled_arrays,
    read_labelled_lines,
    read_labelled_series,
    read_lines,
    train_tokenizer,
)
from stpatch_jax.data.risk import RiskConfig, RiskData
from stpatch_jax.data.rolling import rolling_weight
from stpatch_jax.data.samplers import (
    BlockShuffle,
    UniformSampler,
    WeightedSampler,
    class_weights,
    valid_fractions,
)
from stpatch_jax.data.sampling import (
    AugmentedSource,
    Batch,
    Sampler,
    Source,
    batch_iterator,
    sequential_batches,
)
from stpatch_jax.data.scaling import StandardScaler
from stpatch_jax.data.splits import (
    chronological_splits,
    split_by_rows,
    split_by_times,
    window_starts,
)
from stpatch_jax.data.tables import PriceTable, read_price_table
from stpatch_jax.data.transforms import Log, Log1p, MinMaxScaler, RobustScaler, Transform
from stpatch_jax.data.writers import ForecastWriter, forecast_dataset, write_csv, write_table

__all__ = [
    "CATALOG",
    "AlertConfig",
    "Augmentation",
    "AugmentedSource",
    "Batch",
    "BlockShuffle",
    "CatalogEntry",
    "Characters",
    "CharactersConfig",
    "Cleaner",
    "CleaningConfig",
    "Climatology",
    "ClipClasses",
    "ClipClassesConfig",
    "ClipObjects",
    "ClipObjectsConfig",
    "Customers",
    "CustomersConfig",
    "Data",
    "DataConfig",
    "DeviceWindows",
    "FieldConfig",
    "FieldData",
    "FieldWindows",
    "ForecastData",
    "ForecastWriter",
    "LabelledClips",
    "LabelledClipsConfig",
    "LabelledData",
    "LabelledFields",
    "LabelledItems",
    "LabelledSeriesConfig",
    "LabelledSplit",
    "LabelledTextConfig",
    "LabelledVolumesConfig",
    "Log",
    "Log1p",
    "MinMaxScaler",
    "MovementConfig",
    "NextFrames",
    "NextFramesConfig",
    "ObjectData",
    "PanelConfig",
    "PanelData",
    "Pipeline",
    "PriceTable",
    "RiskConfig",
    "RiskData",
    "RobustScaler",
    "Sampler",
    "SlabReader",
    "Source",
    "StandardScaler",
    "Tokenizer",
    "Transform",
    "UniformSampler",
    "UnlabelledFields",
    "WeightedSampler",
    "batch_iterator",
    "calendar_features",
    "chronological_splits",
    "class_weights",
    "forecast_dataset",
    "hampel_filter",
    "interpolate",
    "k_fold",
    "locate",
    "open_field",
    "read_folder",
    "read_labelled_arrays",
    "read_labelled_lines",
    "read_labelled_series",
    "read_lines",
    "read_price_table",
    "rolling_weight",
    "sequential_batches",
    "split_by_rows",
    "split_by_times",
    "train_tokenizer",
    "truth",
    "valid_fractions",
    "window_starts",
    "with_climatology",
    "with_space_means",
    "write_csv",
    "write_table",
]
