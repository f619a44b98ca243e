"""Bits per character of a whole split, and the lines of a report."""

import numpy as np
import pytest
from flax import nnx

from stpatch_jax.data import CharactersConfig
from stpatch_jax.metrics import TokenEntropy
from stpatch_jax.nn import PatchCNNConfig, TokenEmbeddingConfig
from stpatch_jax.patches.windows import WindowSpec
from stpatch_jax.runs import judges
from stpatch_jax.runs.judging.next_token import bits_per_char
from stpatch_jax.tasks import NextTokenConfig
from stpatch_jax.training import make_mesh


def test_bits_of_a_split_are_those_of_its_characters(tmp_path):
    random = np.random.default_rng(0)
    lines = ["".join(random.choice(list("abc "), random.integers(3, 12))) for _ in range(40)]
    (tmp_path / "text.txt").write_text("\n".join(lines) + "\n")
    data = CharactersConfig(str(tmp_path / "text.txt"), 8, 3, 0.2, 0.2).load()
    task = NextTokenConfig().create().fitted(data)
    backbone = PatchCNNConfig(WindowSpec((1,)), features=(3,))
    embedding = TokenEmbeddingConfig(backbone, vocabulary=256, features=3, longest_window=2)
    model = task.build(embedding, {"tokens": (1, 9)}, rngs=nnx.Rngs(0))
    head = model.head.dense.kernel  # type: ignore[attr-defined]
    head[...] = random.normal(size=head.shape).astype(np.float32)
    judge = judges.of(task, data)(task, data, make_mesh(), batch_size=8)
    judged = judge(model, "test")
    bits = {name: bits_per_char(judged.rows, name) for name in judged.rows["nats"]}

    source = data.source("test")
    examples = [source[at] for at in range(len(source))]
    tokens, mask = (np.stack([e[name] for e in examples]) for name in ("tokens", "token_mask"))
    log_probability = np.asarray(nnx.jit(task.predict)(model, {"tokens": tokens}))
    entropy = TokenEntropy.of(log_probability, tokens[:, 1:], mask=mask[:, 1:])
    assert judged.rows["count"].sum() == entropy.count == len(data.texts["test"][0]) - 1
    assert bits["model"] == pytest.approx(float(entropy.bits_per_token()), rel=1e-5)
    frequency = (np.array(data.token_counts) + 1) / (sum(data.token_counts) + 256)
    unigram = -np.log2(frequency[data.texts["test"][0][1:]]).mean()
    assert bits["unigram"] == pytest.approx(unigram, rel=1e-5)
    assert judge.validation(judge(model, "validation")).keys() == {"bits_per_char"}

    lost = judge.losses(judged)
    assert lost is not None
    gain = lost.of["model"].sum() / lost.of["unigram"].sum()
    assert gain == pytest.approx(bits["model"] / bits["unigram"])

    report = judge.report(judged)
    assert report["model"]["perplexity"] == pytest.approx(2 ** bits["model"])
    assert {name: len(lines) for name, lines in report["lines"].items()} == {"0.5": 3, "0.8": 3}
    assert not any("\n" in line for lines in report["lines"].values() for line in lines)
    text = "\n".join(judge.markdown({"test": report}))
    assert f"| unigram | {unigram:.4g} |" in text
    assert text.count("- temperature") == 6
