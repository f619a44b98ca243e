"""What a stranger's file is answered with: a field, or one sentence that can be followed."""

import re
import warnings

import pytest

from stpatch_jax.data import open_field
from stpatch_jax.errors import InputError

# Advice that is only true of a file that is damaged, or that has its owner destroy data.
_BAD_ADVICE = r"restore the file;?$|remove the wrong one$"


def opened(path, **options):
    """The field of a file; what it warns of is no matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_field(path, **options)


def refused(call, *words, damaged=False):
    """The sentence that refuses a call must hold all words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError) as caught:
            call()
    said = str(caught.value)
    assert re.search(r" must .*, got .*; ", said), said
    assert len(said) < 700, said
    assert damaged or not re.search(_BAD_ADVICE, said), said
    for word in words:
        assert re.search(word, said), (word, said)
    return said
