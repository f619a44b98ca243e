"""Commands as a stranger gives them, and what they answer."""

import contextlib
import io
import re
import warnings
from typing import NamedTuple

from stpatch_jax import cli

SHORT = ["--train.steps", "4", "--train.checkpoint-every", "4", "--train.evaluate-every", "4"]
SHORT += ["--train.batch-size", "8"]


_ARGUMENTS = "time|series|dims|variables|format|encoding|missing_values|select|header|period"


class Said(NamedTuple):
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("warning: ")]

    @property
    def refusal(self) -> str:
        """The one sentence of a refusal."""
        assert self.status == 2, self
        (line,) = [line for line in self.err.splitlines() if not line.startswith("warning: ")]
        assert re.search(r" must .*, got .*; ", line), line
        # What cannot be called on the command line is no advice there.
        assert not re.search(rf"(?<![\w.-])({_ARGUMENTS})=|open_field|read_\w+\(", line), line
        return line


def stpatch(*arguments) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("always")
        status = cli.main([str(argument) for argument in arguments])
    shown = "\n".join(line.rpartition("\r")[2] for line in err.getvalue().splitlines())
    return Said(status, out.getvalue(), shown)


def trained(name, path, run, *flags) -> Said:
    said = stpatch("train", name, "--data.path", path, "--workdir", run, *SHORT, *flags)
    assert said.status == 0, said.err
    return said
