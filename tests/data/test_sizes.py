"""The most bytes that a file may ask for, and what is compared with them."""

import dataclasses
import gzip
import inspect
import json
from typing import Any, get_args

import pytest

from stpatch_jax.data import DataConfig, FieldConfig, FileConfig, sizes
from stpatch_jax.data.sizes import check_bytes, file_content, limited, memory_there, most_bytes
from stpatch_jax.errors import InputError
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.values import from_values, to_values


def test_half_of_the_memory_that_there_is_by_default():
    assert 2**26 < memory_there() < 2**46
    assert most_bytes() == memory_there() // 2


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("0::/a/b\n", "a/memory.max"),
        ("0::/a/b\n", "memory.max"),
        ("7:cpu:/\n4:memory:/x\n", "memory/x/memory.limit_in_bytes"),
        ("4:memory:/x\n", "memory/memory.limit_in_bytes"),
    ],
)
def test_a_control_group_sets_the_memory_that_there_is(tmp_path, monkeypatch, line, place):
    (tmp_path / "cgroup").write_text(line)
    group = tmp_path / "groups" / place
    group.parent.mkdir(parents=True)
    group.write_text("123456789\n")
    monkeypatch.setattr(sizes, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(sizes, "_OWN_GROUP", tmp_path / "cgroup")
    assert memory_there() == 123456789
    group.write_text("max\n")
    assert memory_there() > 2**26


def test_a_limit_holds_inside_and_a_wrong_one_is_refused():
    with limited(1000), limited(None):
        assert most_bytes() == 1000
        check_bytes(1000, "it")
        with pytest.raises(InputError, match=r"it must take at most 1,000 bytes .* got 1,001; .*"):
            check_bytes(1001, "it")
    assert most_bytes() == memory_there() // 2
    wrong: Any
    for wrong in (0, -1, 1.5, float("nan"), True):
        told = pytest.raises(InputError, match=r"data\.most_bytes must be a whole number >= 1")
        with told, limited(wrong):
            pass


class Reading(DataConfig):
    """What a user wrote reads within the limit as well."""

    def load(self) -> Any:
        return most_bytes()

    def restore(self, path, state) -> Any:
        return most_bytes()


@pytest.mark.parametrize("kind", [FieldConfig, FileConfig, Reading])
def test_a_wrong_limit_is_refused_before_anything_is_read(kind):
    for wrong in (0, 2**63, 0.5):
        with pytest.raises(InputError, match=r"data\.most_bytes must be a whole number"):
            kind(most_bytes=wrong)
    assert kind(most_bytes=2**40).most_bytes == 2**40


def test_one_name_is_a_tuple_of_it_in_every_configuration_and_setting():
    kinds: list[Any] = [FileConfig, *_subclasses(DataConfig)]
    for kind in kinds:
        for at in dataclasses.fields(kind):
            if tuple[str, ...] in (at.type, *get_args(at.type)) and not inspect.isabstract(kind):
                if (
                    kind.__name__ == "SegmentedFieldsConfig" and at.name == "classes"
                ):  # two at least
                    with pytest.raises(InputError, match=r"\('one',\)"):
                        kind(classes="one")
                else:
                    assert getattr(kind(**{at.name: "one"}), at.name) == ("one",), (kind, at)
    one: Any = "x"
    assert FieldConfig(known=one, targets=("a", "b")).known == ("x",)
    assert FieldConfig(variables=one).variables == ("x",)
    assert from_values(FieldConfig, to_values(FieldConfig(known=one))).known == ("x",)


def _subclasses(kind):
    return {x for of in kind.__subclasses__() for x in (of, *_subclasses(of))}


def test_every_configuration_reads_within_its_limit():
    assert Reading("a", most_bytes=77).load() == 77
    assert Reading("a", most_bytes=77).restore("b", {}) == 77
    assert Reading().load() == most_bytes()


def test_what_is_packed_is_counted_while_it_is_unpacked(tmp_path):
    bomb = tmp_path / "a.csv.gz"
    with gzip.GzipFile(bomb, "wb") as packed:
        for _ in range(64):
            packed.write(bytes(2**20))
    assert bomb.stat().st_size < 2**17
    with limited(2**22), pytest.raises(InputError, match=r"at most 4,194,304 .* got 5,242,880;"):
        file_content(bomb)
    assert len(file_content(bomb)) == 2**26
    (tmp_path / "a.csv").write_bytes(b"12345")
    with limited(4), pytest.raises(InputError, match=r"a\.csv must take at most 4 .* got 5;"):
        file_content(tmp_path / "a.csv")


def test_a_run_of_before_has_the_default_and_goes_on_with_another_limit(tmp_path):
    values = to_values(FieldConfig("a"))
    assert values.pop("most_bytes") is None
    assert from_values(FieldConfig, values) == FieldConfig("a")
    before = {"data": values, "train": {"steps": 3}}
    RunDirectory(tmp_path).claim(before)
    told = {"data": {**values, "most_bytes": 9}, "train": {"steps": 3}}
    RunDirectory(tmp_path).claim(told)
    assert json.loads((tmp_path / "config.json").read_text())["data"]["most_bytes"] == 9
    with pytest.raises(InputError, match=r"data\.horizon = 24, got 2"):
        RunDirectory(tmp_path).claim({**told, "data": {**told["data"], "horizon": 2}})


def test_the_setting_is_no_option_of_a_reader():
    assert FileConfig(most_bytes=5).told() == {"gaps": "split"}
