"""Texts that a model continues: what the task draws, behind what was given."""

from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from untrained import untrained

from stpatch_jax.data import CharactersConfig
from stpatch_jax.errors import InputError
from stpatch_jax.nn import PatchCNNConfig, TokenEmbeddingConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs.predicting import predict
from stpatch_jax.tasks import NextTokenConfig


def made(folder, line):
    (folder / "text.txt").write_text(f"{line}\n" * 40, encoding="utf-8")
    model = TokenEmbeddingConfig(PatchCNNConfig(WindowSpec((1,)), features=(4,)), vocabulary=256)
    data = CharactersConfig(path=str(folder / "text.txt"), window=8, context=2)
    return untrained(data, model, NextTokenConfig())


def test_a_text_goes_on_as_the_task_draws(tmp_path):
    run = made(tmp_path, "a good film, oh la là")
    (tmp_path / "start.txt").write_text("Both\nways, là\n", encoding="utf-8")
    said = predict(run, str(tmp_path / "start.txt"), tmp_path / "next.txt", length=7)
    assert said == f"7 characters: {tmp_path / 'next.txt'}"
    prompt = np.frombuffer("ways, là".encode("latin-1"), np.uint8)[None]
    task: Any = run.task
    drawn = task.sample(run.model, prompt, length=7, temperature=0.8, key=jax.random.key(0))
    continuation = bytes(np.asarray(drawn)[0, 8:].astype(np.uint8)).decode("latin-1")
    written = (tmp_path / "next.txt").read_bytes().decode()
    assert written == f"Both\nways, là{continuation}\n"


def test_texts_of_a_folder_are_rows_of_a_table(tmp_path):
    run = made(tmp_path, "ein Film, 映画")  # UTF-8: of bytes
    (tmp_path / "in/b").mkdir(parents=True)
    for name, text in {"in/a.txt": "映", "in/b/c.txt": "é\n\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    said = predict(run, str(tmp_path / "in"), tmp_path / "next.csv", length=3, progress=False)
    assert said == f"2 rows: {tmp_path / 'next.csv'}"
    table = pd.read_csv(tmp_path / "next.csv")
    assert list(table["file"]) == ["a.txt", "b/c.txt"]
    assert list(table["text"]) == ["映", "é\n"]
    with pytest.raises(InputError, match=r"a .txt must be of one text, got 2 for .*choose a .csv"):
        predict(run, str(tmp_path / "in"), tmp_path / "next.txt", progress=False)


def test_what_a_run_knows_no_characters_of_is_refused(tmp_path):
    run = made(tmp_path, "a good film")
    (tmp_path / "start.txt").write_text("映画", encoding="utf-8")
    with pytest.raises(InputError, match=r"those of latin-1, got 映, 画; leave these out"):
        predict(run, str(tmp_path / "start.txt"), tmp_path / "next.txt", progress=False)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"must hold texts, got no .txt in it"):
        predict(run, str(tmp_path / "none"), tmp_path / "next.txt", progress=False)
    with pytest.raises(InputError, match=r"must end with .txt, .csv, .csv.gz, got"):
        predict(run, str(tmp_path / "text.txt"), tmp_path / "next.nc", progress=False)
