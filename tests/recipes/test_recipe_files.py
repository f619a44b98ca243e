"""Recipes in files of one's own: found, known again by their classes, refused in one sentence."""

import pytest

from stpatch_jax import InputError
from stpatch_jax.recipes import RECIPES, found, recipe
from stpatch_jax.recipes.registry import import_again
from stpatch_jax.runs.config import RunConfig
from stpatch_jax.runs.values import from_values, to_values

MINE = '''
import dataclasses
from stpatch_jax.nn import FlatPatchesConfig
from stpatch_jax.recipes import recipe, register
from beside import STEPS

@dataclasses.dataclass(frozen=True)
class OwnConfig(FlatPatchesConfig):
    width: int = 3

@register("mine")
def mine():
    """Mine."""
    exchange = recipe("exchange")
    train = dataclasses.replace(exchange.train, steps=STEPS)
    return dataclasses.replace(exchange, model=OwnConfig(), train=train)
'''
SECOND = MINE + '@register("second")\ndef second(): raise KeyError("gone")\n'


@pytest.fixture
def file(tmp_path, monkeypatch):
    before = dict(RECIPES)
    monkeypatch.syspath_prepend(tmp_path)  # What an import appends goes with the test.
    (tmp_path / "beside.py").write_text("STEPS = 7\n")
    path = tmp_path / "my recipe.py"
    path.write_text(MINE)
    yield path
    RECIPES.clear()
    RECIPES.update(before)


def test_a_file_is_a_recipe(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    config = recipe("./my recipe.py")
    assert (config.recipe, config.train.steps) == ("mine", 7)
    assert found(str(file)).__doc__ == "Mine."
    assert config.recipe_file is not None
    assert config.recipe_file.path == str(file)
    values = to_values(config)
    assert values["model"]["type"] == "stpatch_own_my_recipe:OwnConfig"
    assert from_values(RunConfig, values) == config
    # Once read, it is not read again; those of the package stand in no file.
    assert type(recipe(str(file)).model) is type(config.model)
    assert recipe("exchange").recipe_file is None


def test_a_changed_file_is_told_and_a_lost_one_refused(file):
    before = recipe(str(file)).recipe_file
    assert before is not None
    import_again(before)
    file.write_text(MINE.replace("width: int = 3", "width: int = 4"))
    with pytest.warns(UserWarning, match="has changed since the run began"):
        import_again(before)
    file.unlink()
    with pytest.raises(InputError, match=r"my recipe.py must be there, got no such file"):
        import_again(before)


def test_one_of_several_recipes_is_named(file):
    file.write_text(SECOND)
    assert recipe(f"{file}:mine").recipe == "mine"
    with pytest.raises(InputError, match=r"must register one recipe .* mine, second; name one as"):
        recipe(str(file))
    with pytest.raises(InputError, match=r"the recipe of .* must be 'mine' or 'second'"):
        recipe(f"{file}:third")
    with pytest.raises(InputError, match=r"KeyError in line 18: 'gone'; correct it"):
        recipe(f"{file}:second")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"x = 1\n", "must register a recipe, got none"),
        (b"x = 1\n\ny = z\n", "NameError in line 3: name 'z' is not defined; correct it"),
        (b"def f(:\n", "SyntaxError in line 1: "),
        (b"\x89PNG\r\n\x1a\n\0", "SyntaxError"),
        (b"import no_such_module\n", "ModuleNotFoundError in line 1"),
        (b"raise SystemExit(3)\n", "SystemExit in line 1: 3"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(file, content, words):
    file.write_bytes(content)
    with pytest.raises(InputError, match=words):
        recipe(str(file))
