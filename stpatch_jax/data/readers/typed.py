"""Tables whose columns have types: Parquet and Arrow files and tables in memory, as cells."""

from pathlib import Path
from typing import Any

import pandas as pd

from stpatch_jax.data.libraries import require_library
from stpatch_jax.data.readers.cells import Cells
from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.data.sizes import check_bytes, most_bytes
from stpatch_jax.errors import require

PARQUET_SUFFIXES = (".parquet", ".pq")
ARROW_SUFFIXES = (".feather", ".arrow")


def read_typed_cells(file: Path, *, kind: str) -> Cells:
    """The columns of a Parquet or Arrow file; what pandas stored as its index is columns again.

    A row is called by its number, counted from 1. Integers stay integers beside missing ones, so
    that they name the same series as the text of a CSV file does.

    Raises:
        InputError: If the file is missing or unreadable, has no rows, or one column of no numbers.
    """
    require_library("pyarrow", purpose="reading Parquet", install="pyarrow")
    parquet = file.name.lower().endswith(PARQUET_SUFFIXES)
    with parsing(file, "Parquet table" if parquet else "Arrow table"):
        if parquet:
            _check_parquet(file)
        read = pd.read_parquet if parquet else pd.read_feather
        frame = read(file, dtype_backend="numpy_nullable")
    return _cells(frame, file.name, kind)


def frame_cells(frame: pd.DataFrame, *, kind: str) -> Cells:
    """A table of pandas as `read_typed_cells` has one that was written to a Parquet file.

    Raises:
        InputError: It has no rows, or one column of no numbers.
    """
    return _cells(frame.convert_dtypes(), "DataFrame", kind)


def _cells(frame: pd.DataFrame, name: str, kind: str) -> Cells:
    levels = [] if isinstance(frame.index, pd.RangeIndex) else list(frame.index.names)
    # What is in memory stays as it is.
    frame = frame.reset_index() if levels else frame.copy(deep=False)
    several = isinstance(frame.columns, pd.MultiIndex)
    names = (map(str, column if several else [column]) for column in frame.columns)
    header = [" ".join("/".join(parts).split()) for parts in names]
    # As in a CSV file: pandas calls levels without a name index or level_0.
    header[: len(levels)] = ["" if level is None else str(level) for level in levels]
    alone = len(header) == 1 and pd.api.types.is_numeric_dtype(frame.iloc[:, 0])
    require(
        (alone or len(header) > 1) and not frame.empty,
        f"the table {name} must have rows and at least two columns, or one of numbers, got "
        f"{frame.shape}; give another file",
    )
    frame.columns = range(len(header))
    for at in frame:
        # Decimals, dates, times of day and what is nested, as a CSV file has them.
        if pd.api.types.is_object_dtype(frame[at]):
            frame[at] = frame[at].map(str, na_action="ignore")
    return Cells(name, header, frame, 1, kind, place="row")


def _check_parquet(path: Path) -> None:
    """Refuses a Parquet file, or a folder of such parts, that would take more memory than it may.

    Values that repeat are stored once: the numbers of rows and columns tell what they take, and of
    texts only reading them in small batches does.
    """
    dataset = require_library("pyarrow.dataset", purpose="reading Parquet", install="pyarrow")
    wanted = 0
    for part in dataset.dataset(path, format="parquet").get_fragments():
        told = part.metadata
        stored = sum(told.row_group(at).total_byte_size for at in range(told.num_row_groups))
        wanted += max(stored, 8 * told.num_rows * told.num_columns)
        check_bytes(wanted, f"the table {path.name}")
        texts = [of.name for of in part.physical_schema if not _is_fixed(of.type)]
        rows = min(max(most_bytes() // max(stored, 1), 2**10), 2**16)
        for batch in part.to_batches(columns=texts, batch_size=rows) if texts else ():
            wanted += batch.nbytes
            check_bytes(wanted, f"the table {path.name}, as far as it was read,")


def _is_fixed(kind: Any) -> bool:
    """Whether all values of an Arrow type take the same few bytes."""
    try:
        return kind.bit_width <= 256
    except ValueError:  # Of any other it tells none.
        return False
