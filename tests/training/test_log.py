import json
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stpatch_jax.training.log import MetricsLog


def write(path: Path, start: int, steps: range) -> None:
    with MetricsLog(path, start) as log:
        for step in steps:
            log.write({"step": step, "loss": 1 / step})
        log.sync()


@given(at=st.integers(0, 12), loss=st.integers(0, 60))
def test_any_cut_and_rewrite_gives_the_same_bytes(
    tmp_path_factory: object, at: int, loss: int
) -> None:
    """Killed after `at` steps were saved, with up to `loss` bytes of the last lines lost."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        straight, broken = Path(folder) / "straight", Path(folder) / "broken"
        write(straight, 0, range(1, 13))
        write(broken, 0, range(1, 13))
        saved = sum(len(line) for line in straight.read_bytes().splitlines(True)[:at])
        data = broken.read_bytes()
        broken.write_bytes(data[: max(saved, len(data) - loss)])
        write(broken, at, range(at + 1, 13))
        assert broken.read_bytes() == straight.read_bytes()


def test_lines_that_are_no_records_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\xfe\n[]\n{}\n7\n{"step": 2}\n{"step": 3}\n{"st')
    with MetricsLog(path, 2):
        pass
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_every_line_is_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path, 0) as log:
        log.write({"step": 1, "loss": float("nan"), "grad_norm": float("inf"), "skipped": 1})
    record = json.loads(path.read_text(), parse_constant=lambda name: 1 / 0)
    assert record == {"step": 1, "loss": None, "grad_norm": None, "skipped": 1}


class Board:
    """What tensorboardX would write."""

    made: ClassVar[list["Board"]] = []

    def __init__(self, folder: str, purge_step: int):
        self.folder, self.purge_step, self.scalars, self.closed = folder, purge_step, [], False
        self.made.append(self)

    def add_scalar(self, *scalar: object) -> None:
        self.scalars.append(scalar)

    def close(self) -> None:
        self.closed = True


def test_numbers_go_to_tensorboard_where_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stpatch_jax.training.log.SummaryWriter", Board)
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path, 4):
        pass
    assert not Board.made
    with MetricsLog(path, 4) as log:
        log.write({"step": 5, "loss": float("nan"), "validation/mae": 0.5})
    (board,) = Board.made
    assert (board.folder, board.purge_step) == (str(tmp_path / "tensorboard"), 5)
    assert board.scalars == [("validation/mae", 0.5, 5)]
    assert board.closed


def test_tensorboard_reads_what_is_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    write(tmp_path / "metrics.jsonl", 0, range(1, 4))
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()
