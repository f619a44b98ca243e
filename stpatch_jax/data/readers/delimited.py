"""Tables as text: their separator, header and columns, as cells."""

import csv
import re
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from stpatch_jax.data.libraries import one_line
from stpatch_jax.data.readers.cells import MISSING, Cells, is_number, looks_like_date
from stpatch_jax.data.readers.encoded import open_text
from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.data.sizes import check_bytes
from stpatch_jax.errors import InputError, require, shortened

CSV_SUFFIXES = (".csv", ".csv.gz")
TEXT_SUFFIXES = (*CSV_SUFFIXES, ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".dat")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SAMPLE = 1000
_COLUMN_BYTES = 2**15  # What a column takes beside its numbers.
# Comments, and the separator as workbooks tell it to themselves.
_ABOVE = re.compile(r'#|"?sep=.')


def read_cells(
    file: Path,
    words: Callable[[Cells], Collection[int]],
    *,
    kind: str = "table",
    header: Sequence[str] | None = None,
    encoding: str | None = None,
    fewest: int = 2,
) -> Cells:
    """Reads header and cells of a text file with commas, semicolons, tabs, bars or white space.

    The separator is the one that the header and the first lines agree on; white space separates
    the cells of files other than `.csv` that have no other one. Beside semicolons and tabs a number
    may have a decimal comma. Lines that start with `#` above the header are comments; a line of
    units may stand below it. A line that ends early has missing cells. Of the first rows, `words`
    tells the columns of words and dates; they are read as text, all other ones as numbers where
    they can be.

    Args:
        file: The file, packed by gzip or not.
        words: Numbers of the columns that are read as text.
        kind: What messages call the file.
        header: Names of the columns, for a file without a header.
        encoding: See `open_text`.
        fewest: Number of columns that there must be, but for one of numbers alone; white space is
            in the one of texts.

    Raises:
        InputError: If the file is missing or unreadable, has no header or no rows, its separator is
            not clear, or a line has more cells than the header.
    """
    with open_text(file, kind=kind, encoding=encoding, newline="") as text:
        number, start, first, above = 1, 0, _line(text, file, kind), ""
        while first and (not first.strip() or _ABOVE.match(first)):
            above, number, start, first = first, number + 1, text.tell(), _line(text, file, kind)
        lines = [first, *(_line(text, file, kind) for _ in range(8))]
        with parsing(file, kind):
            usual = "," if file.name.lower().endswith(CSV_SUFFIXES) else " "
            separator = _separator(lines, usual="\t" if fewest < 2 and usual == " " else usual)
            text.seek(start)
            names, used = _header(text, separator) if header is None else (list(header), 0)
            told = _split(above.lstrip("#% "), separator)
            if header is None and not _are_names(names) and len(told) == len(names):
                header, names, used = told, [" ".join(name.split()) for name in told], 0
        if header is None:
            alone = fewest < 2 or _are_numbers(lines[used:])
            _check_header(file, kind, names, first, number, 1 if alone else fewest)
            start = text.tell()
        rows = _Rows(text, start, separator, file, kind, names, number + used)
        # Each line may end with a separator behind its last cell.
        if _split(lines[used] if used < 2 else "", separator)[len(names) :] == [""]:
            names.append("")
        rows.check_bytes()
        sample = rows.read(nrows=_SAMPLE, words=range(len(names)))
        decimal = _decimal(sample, file, separator)
        head = Cells(file.name, names, sample, rows.first_line, kind, decimal=decimal)
        text_at, units = words(head), ()
        if _is_of_units(head, set(range(len(names))) - set(text_at)):
            text.seek(rows.start)
            units, used = _header(text, separator)
            rows = replace(rows, start=text.tell(), first_line=rows.first_line + used)
        frame = rows.read(words=text_at, decimal=decimal)
    if separator == "\t":
        _check_quotes(Cells(file.name, names, frame, rows.first_line))
    if frame.empty:
        raise InputError(
            f"the {kind} {file.name} must have rows, got none below its header; give another file"
        )
    notes = () if decimal == "." else ("Its numbers were read with a decimal comma.",)
    told = {"decimal": decimal, "notes": notes, "units": tuple(units)}
    return Cells(file.name, names, frame, rows.first_line, kind, **told)


def _is_of_units(head: Cells, numbers: Collection[int]) -> bool:
    """Whether the first row holds units: no date, and text in columns that hold numbers below."""
    if len(head.frame) < 2 or any(map(looks_like_date, head.frame.iloc[0].astype(str))):
        return False
    told = [head.texts(at)[0] for at in numbers if head.present(at)[0]]
    return 0 < len(numbers) <= 2 * len(told) and not any(map(is_number, told))


def _line(text: TextIO, file: Path, kind: str) -> str:
    """The next line, of no more signs than the library takes for one cell."""
    line, most = text.readline(csv.field_size_limit() + 1), csv.field_size_limit()
    require(
        len(line) <= most,
        f"the first lines of the {kind} {file.name} must have at most {most:,} signs each, got "
        f"more in that of {shortened(line, most=40)!r}; save a wide table as a long one, or as "
        "Parquet",
    )
    return line


def _split(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    return next(csv.reader([line], delimiter=separator), [])


def _separator(lines: Sequence[str], *, usual: str) -> str:
    """The separator on which the first lines agree, " " for white space; else the usual one."""
    told = [line for line in lines if line.strip()] or [""]
    counts = {at: [len(_split(line, at)) for line in told] for at in _SEPARATORS}
    clear = [at for at, cells in counts.items() if cells[0] > 1]
    if len(clear) > 1:
        # A name may hold a sign that separates nothing in the other lines.
        clear = [at for at in clear if set(counts[at]) <= {counts[at][0], counts[at][0] + 1}]
    require(
        len(clear) < 2,
        "the separator of the columns must be clear, got lines that "
        f"{' and '.join(_SEPARATORS[at] for at in clear)} alike cut into columns of one number; "
        "put names and texts that hold one of them between quotes",
    )
    return clear[0] if clear else usual


def _header(text: TextIO, separator: str) -> tuple[list[str], int]:
    """The names of the columns, and on how many lines they stand."""
    if separator == " ":
        return text.readline().split(), 1
    # Iterating over the file itself would forbid to ask for the place reached.
    reader = csv.reader(iter(text.readline, ""), delimiter=separator)
    return [" ".join(name.split()) for name in next(reader, [])], reader.line_num


def _check_header(
    file: Path, kind: str, names: Sequence[str], first: str, number: int, fewest: int
) -> None:
    require(
        len(names) >= fewest,
        f"the {kind} {file.name} must have a header with at least two columns separated by commas, "
        f"semicolons, tabs or bars, got {shortened(first)!r} in line {number}; begin lines "
        "above the header with #, or save it as comma-separated text",
    )
    require(
        _are_names(names),
        f"the {kind} {file.name} must have a header that names its columns, got "
        f"{shortened(first)!r} in line {number}; put a line of names above it, or "
        "name them with header=",
    )


def _are_names(header: Sequence[str]) -> bool:
    """Whether a header is no row of values: it has a word, or counts the columns."""
    told = [name for name in header if name]
    words = (name for name in told if not re.fullmatch(r"[-+\d.,:/ TZe]+", name))
    return any(words) or told == list(map(str, range(len(told))))


def _are_numbers(lines: Sequence[str]) -> bool:
    """Whether each line that tells something is one number."""
    told = pd.Series([text for line in lines if (text := line.strip(' "\r\n')) not in MISSING])
    numbers = np.asarray(pd.to_numeric(told, errors="coerce"), float)
    return len(told) > 0 and not np.isnan(numbers).any()


def _check_quotes(cells: Cells) -> None:
    for at in cells.frame:
        texts = cells.texts(at)
        taken = texts.str.contains(r"\t.*\n", regex=True)
        require(
            not taken.any(),
            f"every quote of {cells.name} must close in its own cell, got one in "
            f"{cells.where(texts.index[taken.to_numpy().argmax()])} that takes the lines behind it "
            "into one cell; take it out, or put two quotes in place of it and one at each end",
        )


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows below a header, which pandas reads from the place `start` on."""

    text: TextIO
    start: int
    separator: str
    file: Path
    kind: str
    names: list[str]
    first_line: int

    def read(
        self, *, words: Collection[int], decimal: str = ".", nrows: int | None = None
    ) -> pd.DataFrame:
        """The cells of numbered columns, those of `words` as text."""
        self.text.seek(self.start)
        columns = range(len(self.names))
        with parsing(self.file, self.kind), warnings.catch_warnings():
            # pandas only warns when it cuts off cells beyond the last column.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            try:
                return pd.read_csv(
                    self.text,
                    sep=r"\s+" if self.separator == " " else self.separator,
                    header=None,
                    names=columns,
                    index_col=False,
                    dtype=dict.fromkeys(words, str),
                    keep_default_na=False,
                    # A company may be called NA, so only cells of numbers can be missing.
                    na_values={at: list(MISSING) for at in columns if at not in words},
                    decimal=decimal,
                    nrows=nrows,
                    # Blank lines stay rows, so that a row tells its line.
                    skip_blank_lines=False,
                    skipinitialspace=True,
                    low_memory=False,
                )
            except pd.errors.EmptyDataError:
                return pd.DataFrame()
            except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
                raise InputError(
                    f"every line of {self.file.name} must have the {len(self.names)} cells of its "
                    f"header, got {self._too_long() or one_line(error)}; put cells that hold "
                    "the separator between quotes, or begin lines above the header with #"
                ) from error

    def check_bytes(self) -> None:
        self.text.seek(self.start)
        rows = sum(block.count("\n") for block in iter(lambda: self.text.read(2**20), ""))
        wanted = len(self.names) * (8 * rows + _COLUMN_BYTES)
        check_bytes(wanted, f"the table of {len(self.names):,} columns in {self.file.name}")

    def _too_long(self) -> str | None:
        """Says which line has too many cells; pandas counts from the header or names none."""
        self.text.seek(self.start)
        if self.separator == " ":
            lines = enumerate(iter(self.text.readline, ""), start=1)
            rows = ((number, line.split()) for number, line in lines)
        else:
            reader = csv.reader(self.text, delimiter=self.separator)
            rows = ((reader.line_num, row) for row in reader)
        for number, row in rows:
            if len(row) > len(self.names):
                return f"line {self.first_line - 1 + number} has {len(row)}"
        return None


def _decimal(sample: pd.DataFrame, file: Path, separator: str) -> str:
    """The decimal sign of a table: a comma only beside another separator, and where no dot is."""
    if separator == "," or sample.empty:
        return "."
    texts = [str(text) for text in pd.unique(sample.to_numpy(object, na_value="").ravel())]
    commas = [text for text in texts if re.fullmatch(r"[-+]?\d*,\d+", text)]
    if not commas or any(re.fullmatch(r"[-+]?\d*\.\d+", text) for text in texts):
        return "."
    require(
        any(not re.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}", text) for text in commas),
        f"the numbers of {file.name} must tell decimals from thousands, got {commas[0]!r} and "
        "others like it; write them with a decimal point",
    )
    return ","
