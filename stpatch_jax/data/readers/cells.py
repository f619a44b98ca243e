"""The cells of a CSV file, with the line numbers that messages to the user need."""

import csv
import gzip
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from stpatch_jax.data.libraries import one_line
from stpatch_jax.errors import InputError

_MISSING = ["", "-", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "none"]
_DATE = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?:[ T](\d{1,2}):(\S+))?")


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a CSV file below its header.

    Attributes:
        name: Name of the file, for messages.
        header: Names of the columns as they stand in the file, without outer spaces.
        frame: One row per line of the file, blank lines too; columns are numbered, so that names
            may repeat.
        first_line: Number of the line in the file, counted from 1, that is row 0.
        kind: What the file is, for messages.
    """

    name: str
    header: list[str]
    frame: pd.DataFrame
    first_line: int
    kind: str = "table"

    def line(self, row: Any) -> int:
        """Number of the line in the file that holds a row of the frame."""
        return self.first_line + int(row)

    def numbers(self, at: int) -> np.ndarray:
        """Column `at` as float64 [row], NaN where the cell is empty or says that it is missing.

        Raises:
            InputError: If a cell holds anything else than a finite number.
        """
        column = self.frame[at]
        is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        source = column if is_number else column.astype(str).where(column.notna())
        numbers = np.asarray(pd.to_numeric(source, errors="coerce"), np.float64)
        wrong = np.isinf(numbers) | (np.isnan(numbers) & column.notna().to_numpy())
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"column {self.header[at]!r} of {self.name} must be numeric, got "
                f"{str(column.iloc[row])!r} in line {self.line(row)}; correct that cell or leave "
                "it empty"
            )
        return numbers

    def dates(self, at: int, rows: pd.Index) -> pd.Series:
        """Column `at` at the given rows as datetime64[ns], in UTC where offsets are given.

        Raises:
            InputError: If a cell holds no date with the year first.
        """
        texts = self.frame[at].loc[rows].fillna("").str.strip()
        codes, unique = pd.factorize(texts)
        parsed = pd.to_datetime(
            [_iso_date(text) for text in unique], format="ISO8601", utc=True, errors="coerce"
        ).tz_localize(None)
        # Nanoseconds reach from 1678 to 2261; newer pandas reads dates beyond in coarser units.
        wrong = ~((parsed.year >= 1678) & (parsed.year <= 2261))[codes]
        if wrong.any():
            row = rows[wrong.argmax()]
            raise InputError(
                f"column {self.header[at]!r} of {self.name} must hold dates like 2012-09-04, got "
                f"{texts[row]!r} in line {self.line(row)}; write dates with the year first"
            )
        return pd.Series(parsed.to_numpy("datetime64[ns]")[codes], index=rows)

    def names(self, at: int, rows: pd.Index, *, noun: str) -> pd.Series:
        """Column `at` at the given rows as text; each names what `noun` says.

        Raises:
            InputError: If a cell is empty.
        """
        names = self.frame[at].loc[rows].fillna("").str.strip()
        if (names == "").any():
            row = names.index[names == ""][0]
            raise InputError(
                f"column {self.header[at]!r} of {self.name} must name a {noun} in every row, got "
                f"none in line {self.line(row)}; fill it in or remove the line"
            )
        return names


def read_cells(
    file: Path,
    words: Callable[[list[str]], Sequence[int]],
    *,
    kind: str = "table",
    header: Sequence[str] | None = None,
    suffixes: tuple[str, ...] = (".csv", ".csv.gz"),
) -> Cells:
    """Reads header and cells of a text file with commas, or of one with white space between them.

    Lines that start with `#` above the header are comments. A line that ends early has missing
    cells. White space separates the cells of files other than `.csv` and `.csv.gz`. Of the header,
    which may be given, `words` tells the columns of words and dates; they are read as text, all
    other ones as numbers. `kind` is what messages call the file.

    Raises:
        InputError: If the file is missing or unreadable, has no header or no rows, or a line has
            more cells than the header.
    """
    comma = file.name.lower().endswith((".csv", ".csv.gz"))
    with _open_text(file, kind, suffixes) as text:
        line_number, start, line = 1, 0, text.readline()
        while line.startswith("#"):
            line_number, start, line = line_number + 1, text.tell(), text.readline()
        if header is None:
            cells = next(csv.reader([line]), []) if comma else line.split()
            names, first_line = [name.strip() for name in cells], line_number + 1
        else:
            names, first_line = list(header), line_number
            text.seek(start)
        if len(names) < 2:
            raise InputError(
                f"the {kind} {file.name} must have a header with at least two columns separated "
                f"by {'commas' if comma else 'white space'}, got {line.strip()[:60]!r} in line "
                f"{line_number}; save it as {'comma-separated ' if comma else ''}text"
            )
        try:
            frame = _read_frame(text, range(len(names)), words(names), comma)
        except pd.errors.EmptyDataError:
            frame = pd.DataFrame()
        except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
            text.seek(0)
            told = _too_long(text, first_line, len(names), comma) or f"it gave: {one_line(error)}"
            raise InputError(
                f"every line of {file.name} must have the {len(names)} cells of its header, got "
                f"{told}; correct it"
            ) from error
    if frame.empty:
        raise InputError(
            f"the {kind} {file.name} must have rows, got none below its header; give another file"
        )
    return Cells(file.name, names, frame, first_line, kind)


def _read_frame(text: TextIO, columns: range, words: Sequence[int], comma: bool) -> pd.DataFrame:
    with warnings.catch_warnings():
        # pandas only warns when it cuts off cells beyond the last column.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            text,
            sep="," if comma else r"\s+",
            header=None,
            names=columns,
            index_col=False,
            dtype=dict.fromkeys(words, str),
            keep_default_na=False,
            # A company may be called NA, so only cells of numbers can be missing.
            na_values={at: _MISSING for at in columns if at not in words},
            # Blank lines stay rows, so that a row tells its line.
            skip_blank_lines=False,
            skipinitialspace=True,
            low_memory=False,
        )


@contextmanager
def _open_text(file: Path, kind: str, suffixes: tuple[str, ...]) -> Iterator[TextIO]:
    """Opens a text file and turns everything that can go wrong in reading it into one sentence."""
    if not file.name.lower().endswith(suffixes):
        raise InputError(f"a {kind} must be a {' or '.join(suffixes)} file, got {file}; convert it")
    if not file.is_file():
        raise InputError(
            f"there must be a {kind} at {file}, got none; give an existing "
            f"{' or '.join(suffixes)} file"
        )
    open_ = gzip.open if file.name.lower().endswith(".gz") else open
    try:
        # utf-8-sig drops the mark that spreadsheets put in front.
        with open_(file, "rt", encoding="utf-8-sig", newline="") as text:
            yield text
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"the {kind} {file} must be readable text, got {one_line(error)}; restore the file "
            "or save it again as UTF-8"
        ) from error


def _too_long(text: TextIO, first_line: int, cells: int, comma: bool) -> str | None:
    """Says which line has too many cells; pandas counts from the header or names none."""
    if comma:
        reader = csv.reader(text)
        rows = ((reader.line_num, row) for row in reader)
    else:
        rows = ((number, line.split()) for number, line in enumerate(text, start=1))
    for number, row in rows:
        if number >= first_line and len(row) > cells:
            return f"line {number} has {len(row)}"
    return None


def _iso_date(text: str) -> str:
    """Pads a date with the year first to ISO 8601; empty for others, as 3/4/2012 is two days."""
    if re.fullmatch(r"\d{8}", text):
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    if not (match := _DATE.fullmatch(text)):
        return ""
    year, _, month, day, hour, rest = match.groups()
    return f"{year}-{month:0>2}-{day:0>2}" + (f"T{hour:0>2}:{rest}" if hour else "")
