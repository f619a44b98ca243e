"""What is made in place of published files that may not be fetched."""

import pytest

from stpatch_jax.data import catalog
from stpatch_jax.data.made import MAKERS, folder
from stpatch_jax.recipes import recipe

RECIPES = ("heartbeat", "stock-movement", "stock-risk", "traffic", "weather")


@pytest.fixture(scope="module", autouse=True)
def _elsewhere(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("STPATCH_DATA", raising=False)
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def test_every_entry_without_an_address_that_a_recipe_reads_is_made():
    assert set(catalog._MADE) == set(MAKERS)
    assert all(catalog.CATALOG[name].url is None for name in MAKERS)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_run_on_what_is_made_and_say_so(name):
    config = recipe(name).data
    with pytest.warns(UserWarning, match="is made from a seed"):
        data = config.load()
    assert all(len(data.source(split)) > 40 for split in ("train", "validation", "test"))
    chosen = config.settled(data)[1]
    assert "figures on it say nothing" in chosen["data.path"]


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"era5_uk", "stocks"}))
def test_a_file_is_the_same_whenever_it_is_made(name, tmp_path):
    MAKERS[name](tmp_path / "again")
    with pytest.warns(UserWarning, match="made from a seed"):
        path = catalog.locate(name)
    assert path.parent == folder()
    assert path.read_bytes() == (tmp_path / "again").read_bytes()
