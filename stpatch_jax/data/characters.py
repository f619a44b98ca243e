"""Text as a stream of characters, to predict each from those before it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stpatch_jax.data.protocols import (
    EVERYTHING,
    DataConfig,
    InputAxes,
    Problem,
    chosen_split,
    stored_encoding,
)
from stpatch_jax.data.readers import read_lines
from stpatch_jax.data.readers.text import text_pair
from stpatch_jax.data.sampling.batches import Batch, Source
from stpatch_jax.data.sampling.splits import check_shares
from stpatch_jax.errors import check_range, check_size, listed, require

SYMBOLS = 256
_END = "\n"
_VISIBLE = {" ": "\u2423", _END: "\u21b5", "\0": "\u00b7"}


@dataclass(frozen=True)
class CharactersConfig(DataConfig):
    """The characters of a text, each to be predicted from those before it.

    The vocabulary is the same 256 for every text: the characters of latin-1, or, for a text that
    has others, the bytes of UTF-8, of which a character is one or several.
    The first lines of a file train, the next ones validate, the last ones test; of a pair
    `NAME.pos` and `NAME.neg` both files are read, each split like this.

    Attributes:
        window: Number of characters that an example predicts.
        context: Number of characters before those that are scored in validation and test, where
            the text has them; each character is scored once.
        validation_share: Share of the lines to validate on, in (0, 1).
        test_share: Share of the lines to test on, in (0, 1).
        encoding: How the characters are stored, see `open_text`; known of the catalog's files.
    """

    window: int = 128
    context: int = 64
    validation_share: float = 0.05
    test_share: float = 0.05
    encoding: str | None = None

    reading: ClassVar[tuple[str, ...]] = ("encoding", "most_bytes")

    def __post_init__(self) -> None:
        check_size("data.window", self.window)
        check_size("data.context", self.context, least=0)
        check_range("data.context", self.context, 0, self.window, bounds="[)")
        check_shares(validation_share=self.validation_share, test_share=self.test_share)

    def load(self) -> "Characters":
        """Reads the file, or the two of a pair, and splits their lines.

        Raises:
            InputError: A file cannot be read or has too few lines.
        """
        path = self.file()
        files = list(text_pair(str(self.path)).values()) or [path]
        encoding = stored_encoding(str(self.path), self.encoding)
        lines = {file: read_lines(file, encoding=encoding) for file in files}
        symbols = _symbols(lines.values())
        parts: dict[str, list[Sequence[str]]] = {"train": [], "validation": [], "test": []}
        for file, own in lines.items():
            for name, part in self._split(own).items():
                require(
                    len(part) > 0,
                    f"the {name} split of {file} must have a line, got none of {len(own)} "
                    "lines; use a longer text or other shares",
                )
                parts[name].append(part)
        texts = {name: [_bytes(part, symbols) for part in own] for name, own in parts.items()}
        report = {
            "source": files,
            "symbols": symbols,
            "splits": {
                name: {
                    "lines": sum(map(len, parts[name])),
                    "characters": sum(len(text) - 1 for text in texts[name]),
                }
                for name in texts
            },
        }
        return Characters(self, texts, report, symbols)

    def restore(self, path: str, state: Mapping[str, Any]) -> "GivenTexts":
        """Reads a text, or every `.txt` of a folder, for a trained run: each is to be continued.

        A line that the end of the file ends is taken up where it ends.

        Raises:
            InputError: There is none, it cannot be read, or has characters that the run has not.
        """
        require(
            "symbols" in state,
            "the run must tell its characters, got one of an older version; train it anew",
        )
        root, symbols = Path(path), str(state["symbols"])
        inside = sorted(root.rglob("*.txt")) if root.is_dir() else [root]
        files = [file for file in inside if not file.name.startswith(".")]
        require(bool(files), f"{path} must hold texts, got no .txt in it; give a text")
        texts = []
        for file in files:
            text = _END + _END.join(read_lines(file, encoding=self.encoding))
            strange = [] if symbols == "utf-8" else [sign for sign in text if ord(sign) >= SYMBOLS]
            require(
                not strange,
                f"{file} must have the characters of the run alone, those of latin-1, got "
                f"{listed(dict.fromkeys(strange))}; leave these out",
            )
            texts.append(np.frombuffer(text.encode(symbols), np.uint8))
        names = [file.name if file == root else str(file.relative_to(root)) for file in files]
        return GivenTexts(texts, names, state, {"source": path, "notes": []})

    def _split(self, lines: Sequence[str]) -> dict[str, Sequence[str]]:
        count = len(lines)
        test = round(count * (1 - self.test_share))
        validation = round(count * (1 - self.test_share - self.validation_share))
        return {
            "train": lines[:validation],
            "validation": lines[validation:test],
            "test": lines[test:],
        }


def _symbols(files: Iterable[Sequence[str]]) -> str:
    """The encoding whose bytes are predicted: latin-1, in which each is a character, or UTF-8."""
    latin = all(max(map(ord, line), default=0) < SYMBOLS for lines in files for line in lines)
    return "latin-1" if latin else "utf-8"


def _bytes(lines: Sequence[str], symbols: str) -> np.ndarray:
    """Lines as one text that begins with the end of a line, which is not predicted."""
    text = _END + "".join(line + _END for line in lines)
    return np.frombuffer(text.encode(symbols), np.uint8)


@dataclass(frozen=True, eq=False)
class Characters(Problem):
    """The texts of one problem by split; made by `CharactersConfig.load`.

    Attributes:
        texts: The texts of `train`, `validation` and `test`, uint8 each [character]; the first
            character of a text is given and not predicted.
        report: How many lines and predicted characters the splits hold; JSON-able.
        encoding: The encoding whose bytes the texts are.
    """

    config: CharactersConfig
    texts: Mapping[str, Sequence[np.ndarray]]
    report: dict[str, Any]
    encoding: str = "latin-1"

    @property
    def token_counts(self) -> tuple[int, ...]:
        """How often each of the 256 characters occurs in the training texts."""
        return tuple(np.bincount(np.concatenate(self.texts["train"]), minlength=SYMBOLS).tolist())

    def source(self, split: str) -> Source:
        """The examples of a split: `tokens` [window + 1], int32, and `token_mask`, bool.

        Training examples begin at every character. Those of the other splits follow each other so
        that the mask is True at each character but the first of its text in one of them.
        """
        texts = chosen_split(self.texts, split)
        window, step = self.config.window, self.config.window - self.config.context
        if split == "train":
            starts = [np.arange(max(1, len(text) - window)) for text in texts]
            return _Windows(texts, starts, window, scored=window)
        before = self.config.context
        starts = [np.arange(0, len(text) - 1, step) - before for text in texts]
        return _Windows(texts, starts, window, scored=step)

    def state(self) -> dict[str, Any]:
        """The counts of the characters of the training texts, and the encoding they are of."""
        return {"token_counts": list(self.token_counts), "symbols": self.encoding}

    def content(self, split: str) -> Mapping[str, Any]:
        """The texts."""
        return {"texts": chosen_split(self.texts, split), "encoding": self.encoding}

    def input_axes(self, split: str, number: int) -> InputAxes:
        """The signs of the tokens that a model reads."""
        return InputAxes(
            channels=("token",),
            unit="number of the token",
            zero="token 0",
            words=self.symbols(self.source(split)[number]["tokens"][:-1]),
        )

    def decode(self, tokens: np.ndarray) -> str:
        """The first line that some tokens [time] spell, as text."""
        text = bytes(tokens.astype(np.uint8)).decode(self.encoding, errors="replace")
        return text.partition(_END)[0]

    def symbols(self, tokens: np.ndarray) -> list[str]:
        """One visible sign for each of some tokens [time]; what cannot be seen has a stand-in.

        A space is `\u2423`, the end of a line `\u21b5`, what lies before or behind a text `\u00b7`,
        and any other sign without a picture `\u25a1`.
        """
        text = [bytes([token]).decode(self.encoding, errors="replace") for token in tokens]
        return [_VISIBLE.get(sign, sign if sign.isprintable() else "\u25a1") for sign in text]


@dataclass(frozen=True, eq=False)
class GivenTexts(Problem):
    """Texts of other files for a trained run, to be continued.

    Attributes:
        texts: The texts, uint8 each [character], which begin with the end of a line.
        files: Names of their files.
        trained: What `Characters.state` gave.
    """

    texts: Sequence[np.ndarray]
    files: Sequence[str]
    trained: Mapping[str, Any]
    report: dict[str, Any]

    def source(self, split: str) -> Source:
        """The only split, `EVERYTHING`: each text as the `tokens` of an example, of any length."""
        texts = chosen_split({EVERYTHING: self.texts}, split)
        return [{"tokens": text.astype(np.int32)} for text in texts]

    def names(self, split: str) -> Mapping[str, Sequence[str]]:
        """The files of the texts."""
        return {"file": chosen_split({EVERYTHING: self.files}, split)}

    def state(self) -> Mapping[str, Any]:
        """What the run was given."""
        return self.trained

    def decode(self, tokens: np.ndarray) -> str:
        """What tokens [time] spell."""
        return bytes(tokens.astype(np.uint8)).decode(str(self.trained["symbols"]), "replace")


@dataclass(frozen=True, eq=False)
class _Windows:
    """Windows of texts by their starts, which may lie before the text: what is not there is 0."""

    texts: Sequence[np.ndarray]
    starts: Sequence[np.ndarray]
    window: int
    scored: int

    def __len__(self) -> int:
        return sum(map(len, self.starts))

    def __getitem__(self, i: int, /) -> Batch:
        for text, starts in zip(self.texts, self.starts, strict=True):
            if i < len(starts):
                return self._cut(text, int(starts[i]))
            i -= len(starts)
        raise IndexError(i)

    def _cut(self, text: np.ndarray, start: int) -> Batch:
        at = np.arange(start, start + self.window + 1)
        there = (at >= 0) & (at < len(text))
        tokens = np.where(there, text[at.clip(0, len(text) - 1)], 0).astype(np.int32)
        last = np.arange(self.window + 1) > self.window - self.scored
        return {"tokens": tokens, "token_mask": there & last}
