"""What several processes collect of a split, as one would."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stpatch_jax.errors import InputError
from stpatch_jax.metrics import LeadTimeErrors
from stpatch_jax.runs.judging import judge
from stpatch_jax.runs.judging.judge import Shows


def collect(numbers, several):
    """What a process collects whose examples have these numbers, of five."""
    shows = {"two": Shows([1, 3], lambda batch, answers: {"x": batch["x"], "model": answers})}
    collected = judge._Collected(5, shows)

    def of(numbers):
        batch = {"x": np.sin(numbers).astype(jnp.bfloat16), "name": np.array(["a", "bc", "d"] * 2)}
        batch["name"], values = batch["name"][numbers], np.cos(numbers)
        values[numbers == 2] = np.nan
        sums = {"of": LeadTimeErrors.of(values[:, None], 0 * values[:, None]), "count": values.size}
        return sums, {**batch, "model": values}, batch, values

    if several:
        first = np.minimum(numbers[:1], 4)
        collected.begin(first, *of(first))
    numbers = numbers[numbers < 5]
    for at in np.split(numbers, range(2, len(numbers), 2)):
        if len(at):
            sums, rows, batch, values = of(at)
            collected.add(at, sums, rows)
            collected.show(at, batch, values)
            collected.broken += int(np.isnan(values).sum())
    return collected


def test_processes_collect_what_one_does_and_send_arrays_alone(monkeypatch):
    alone = collect(np.arange(5), several=False).judged("test")
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    # The last has filling alone.
    shares = [collect(np.array(at), several=True) for at in ([0, 3], [1, 2, 4], [7])]
    sent = []

    def gathered(own):
        sent.append(own)
        return sent

    monkeypatch.setattr(judge, "of_every_process", gathered)
    together = [share.judged("test") for share in shares][-1]
    assert (together.split, together.count, together.broken) == ("test", 5, 1)
    assert list(together.rows) == list(alone.rows) == ["model", "name", "x"]
    assert together.sums.keys() == alone.sums.keys()
    of = {"rtol": 1e-15, "err_msg": "sums"}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **of), together.sums, alone.sums)
    assert isinstance(together.sums["of"], LeadTimeErrors)
    parts = [(judged.rows, judged.shown) for judged in (together, alone)]
    jax.tree.map(np.testing.assert_array_equal, *parts)
    assert len({str(jax.tree.map(lambda x: x.dtype, part)) for part in parts}) == 1
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(sent[0])
    # Nor is what runs code when it is read ever read.
    with pytest.raises(ValueError, match="allow_pickle"):
        judge._from_bytes(pickle.dumps(alone.rows), [0])


def test_objects_are_no_rows_of_several_processes():
    with pytest.raises(InputError, match=r"must be arrays of numbers or text where .* got object;"):
        judge._to_bytes([np.array([{}, None])])
