"""Damage of many kinds done to the bytes, the text or the folder of a file."""

import io
import json
import random
import zipfile
from pathlib import Path

# What stands at the head of files: counts, sizes, offsets, in all widths.
_WORDS = [0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40]
_WORDS += [2**63 - 1, 2**64 - 1]
_ODD_VALUES = [None, "", "x", -1, 0, 2**40, 1e300, float("nan"), True, [], {}, ["a", 1], "<M8[ns]"]
_ODD_VALUES += ["days since", "hours since 2020-99-99", "moons since 2020-01-01", "360_day", "|O"]
_ODD_TEXT = ["\0", '"', "\n", "\r", ",", ";", "\t", "é", "\ufeff", "\udcff", "-", "1e999", "NaN"]
_ODD_TEXT += ["9" * 400, "2021-13-45", "#", "'", "\u2028", "=1+1", "(", "\x1b[31m"]


def mutated_bytes(content: bytes, dice: random.Random) -> bytes:
    """The bytes of a file with one to three faults."""
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        content = dice.choice(_FAULTS)(bytearray(content), dice) or content[:1]
    return bytes(content)


def _place(content: bytearray, dice: random.Random) -> int:
    """Any place of a file, most often near its head or its end, where the structure stands."""
    near = min(len(content), 600)
    return dice.choice(
        (
            dice.randrange(near),
            len(content) - 1 - dice.randrange(near),
            dice.randrange(len(content)),
        )
    )


def _flip(content: bytearray, dice: random.Random) -> bytes:
    for _ in range(dice.choice((1, 1, 2, 8))):
        content[_place(content, dice)] ^= 1 << dice.randrange(8)
    return bytes(content)


def _replace(content: bytearray, dice: random.Random) -> bytes:
    content[_place(content, dice)] = dice.randrange(256)
    return bytes(content)


def _cut(content: bytearray, dice: random.Random) -> bytes:
    return bytes(content[: _place(content, dice)])


def _remove(content: bytearray, dice: random.Random) -> bytes:
    at = _place(content, dice)
    return bytes(content[:at] + content[at + dice.choice((1, 4, 16, 200)) :])


def _insert(content: bytearray, dice: random.Random) -> bytes:
    at, size = _place(content, dice), dice.choice((1, 4, 16, 200))
    new = dice.choice((dice.randbytes(size), bytes(size), bytes(content[at : at + size])))
    return bytes(content[:at] + new + content[at:])


def _blank(content: bytearray, dice: random.Random) -> bytes:
    at, size = _place(content, dice), dice.choice((4, 16, 200))
    content[at : at + size] = bytes([dice.choice((0, 255))]) * len(content[at : at + size])
    return bytes(content)


def _swap(content: bytearray, dice: random.Random) -> bytes:
    size = dice.choice((4, 8))
    one, other = (_place(content, dice) // size * size for _ in range(2))
    first, second = content[one : one + size], content[other : other + size]
    content[one : one + len(second)], content[other : other + len(first)] = second, first
    return bytes(content)


def _number(content: bytearray, dice: random.Random) -> bytes:
    size, at = dice.choice((1, 2, 4, 8)), _place(content, dice)
    order = dice.choice(("little", "big"))
    word = (dice.choice(_WORDS) % 256**size).to_bytes(size, order)
    content[at : at + size] = word
    return bytes(content)


_FAULTS = (_flip, _replace, _cut, _remove, _insert, _blank, _swap, _number, _number)


def mutated_text(content: bytes, dice: random.Random) -> bytes:
    """A text with cells, lines and signs that do not belong there, or damaged as bytes."""
    if dice.random() < 0.3:
        return mutated_bytes(content, dice)
    text = content.decode("utf-8")
    for _ in range(dice.choice((1, 1, 2, 3))):
        lines = text.split("\n")
        at, other = dice.randrange(len(lines)), dice.randrange(len(lines))
        place = dice.randrange(len(text))
        change = dice.randrange(6)
        if change == 0:
            lines[at], lines[other] = lines[other], lines[at]
        elif change == 1:
            lines.insert(at, lines[other])
        elif change == 2:
            del lines[at]
        elif change == 3:
            lines[at] = lines[at][: dice.randrange(len(lines[at]) + 1)]
        text = "\n".join(lines) or "\n"
        if change >= 4:
            text = text[:place] + dice.choice(_ODD_TEXT) + text[place + dice.randrange(3) :]
    encoding = dice.choice(("utf-8", "utf-8", "utf-8", "utf-16", "cp1252"))
    return text.encode(encoding, "surrogatepass" if encoding != "cp1252" else "replace")


def mutated_zip(content: bytes, dice: random.Random) -> bytes:
    """A zip archive damaged itself, or with a member that was damaged before it was packed."""
    if dice.random() < 0.4:
        return mutated_bytes(content, dice)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(out, "w") as copy:
        members = archive.namelist()
        hit = dice.choice(members)
        for name in members:
            data = archive.read(name)
            if name == hit:
                data = (
                    mutated_bytes(data[:128], dice) + data[128:]
                    if dice.random() < 0.7
                    else mutated_bytes(data, dice)
                )
            copy.writestr(name, data, dice.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    return out.getvalue()


def mutate_folder(folder: Path, dice: random.Random) -> None:
    """Damages one file of a zarr store in place: its bytes, or what its JSON says."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    plain = [
        path for path in files if path.name in (".zmetadata", "zarr.json", ".zarray", ".zattrs")
    ]
    file = dice.choice(plain if dice.random() < 0.7 else files)
    change = dice.random()
    if change < 0.1:
        file.unlink()
    elif file in plain and change < 0.7:
        described = json.loads(file.read_text())
        _change_json(described, dice)
        file.write_text(json.dumps(described))
    else:
        file.write_bytes(mutated_bytes(file.read_bytes(), dice))


def _change_json(described: dict, dice: random.Random) -> None:
    if not (places := list(_places(described))):
        described["units"] = dice.choice(_ODD_VALUES)
        return
    where, key = dice.choice(places)
    if dice.random() < 0.2:
        del where[key]
    elif dice.random() < 0.3:
        other, its = dice.choice(places)
        where[key], other[its] = other[its], where[key]
    else:
        where[key] = dice.choice(_ODD_VALUES)


def _places(node):
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)
