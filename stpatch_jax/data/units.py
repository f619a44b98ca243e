"""Units of measurement as files spell them, and the exact conversions between those of one kind."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

# Symbol, what it is made of, other names. Water is no length here, and months and years are no
# number of days, as neither would be exact.
_TABLE = """
    m        |                     | metre metres meter meters
    g        |                     | gram grams gramme grammes
    s        |                     | second seconds sec secs
    K        |                     |
    mol      |                     | mole moles
    A        |                     | ampere amperes
    deg      |                     | degree degrees arc_degree °
    month    |                     | months
    year     |                     | years yr
    molecule |                     | molecules
    ppm      |                     | ppmv
    ppb      | 0.001 ppm           | ppbv
    ppt      | 0.000001 ppm        | pptv
    fraction | 1                   | dimensionless unitless
    %        | 0.01                | percent pct
    rad      | 57.29577951308232 deg | radian radians
    min      | 60 s                | minute minutes mins
    h        | 60 min              | hour hours hr hrs
    day      | 24 h                | days d
    week     | 7 day               | weeks
    Hz       | 1/s                 | hertz
    N        | 1000 g m s-2        | newton newtons
    Pa       | N m-2               | pascal pascals
    bar      | 100000 Pa           | bar bars
    mb       | 100 Pa              | mbars
    atm      | 101325 Pa           |
    J        | N m                 | joule joules
    W        | J s-1               | watt watts
    Wh       | 3600 J              |
    L        | 0.001 m3            | l litre litres liter liters
    t        | 1000000 g           | tonne tonnes
    lb       | 453.59237 g         | lbs pound pounds
    in       | 0.0254 m            | inch inches
    ft       | 0.3048 m            | foot feet
    mile     | 1609.344 m          | miles mi
    nmi      | 1852 m              | nautical_mile nautical_miles
    kt       | nmi/h               | kts knot knots kn
    mph      | mile/h              |
    kph      | 1000 m/h            | kmh kmph
    mps      | m/s                 |
"""
_LINES = [[cell.strip() for cell in line.split("|")] for line in _TABLE.strip().splitlines()]
_UNITS = {symbol: made_of for symbol, made_of, _ in _LINES}
_WORDS = {name: symbol for symbol, _, names in _LINES for name in names.split()}
_WORDS |= {
    f"degree{ending}": "deg"
    for way in ("north", "east", "true", "n", "e")
    for ending in (f"_{way}", f"s_{way}", way, f"s{way}")
}
_PREFIXES = {
    **{"n": ("nano", -9), "u": ("micro", -6), "m": ("milli", -3), "c": ("centi", -2)},
    **{"d": ("deci", -1), "da": ("deca", 1), "h": ("hecto", 2), "k": ("kilo", 3)},
    **{"M": ("mega", 6), "G": ("giga", 9), "T": ("tera", 12)},
}
_PREFIXED = ("m", "g", "s", "K", "mol", "A", "N", "Pa", "bar", "J", "W", "Wh", "L", "Hz")
# Degrees of temperature: their size in kelvins, and kelvins at their 0.
_DEGREES = {
    "c": (Fraction(1), Fraction("273.15")),
    "f": (Fraction(5, 9), Fraction("459.67") * Fraction(5, 9)),
    "k": (Fraction(1), Fraction(0)),
}
_TEMPERATURE = re.compile(
    "(?:deg(?:ree)?s?|°)(?P<letter>[cfk])|(?:deg(?:ree)?s?|°)?"
    "(?P<word>celsius|celcius|centigrade|fahrenheit|kelvins?)"
)
# Minus signs, micro, and dots and crosses of products.
_SIGNS = str.maketrans("\u2212\u2013\u03bc\u00b7\u22c5\u00d7", "--u..*")
# What is longer, or a higher power, is no unit.
_LONGEST, _MOST_POWER = 80, 20
_UNTOLD = ("", "-", "~", "?", "none", "n/a", "na", "unknown", "undefined", "no units", "null")
_TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d{1,2}(?!\d))?)(?:(?:\^|\*\*)(?P<times>[-+]?\d+))?"
    r"|(?P<name>[A-Za-z%°_]+)(?:(?:\^|\*\*)?(?P<power>[-+]?\d+))?"
    r"|(?P<mark>[/.*()])"
    r"|(?P<space>\s+)"
)


@dataclass(frozen=True)
class Conversion:
    """From one unit into another: `values * factor + offset`, both known exactly.

    >>> conversion("degC", "K")(np.float32([0, 20]))
    array([273.15, 293.15], dtype=float32)
    """

    factor: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)

    @property
    def changes(self) -> bool:
        """Whether values become other numbers."""
        return (self.factor, self.offset) != (1, 0)

    def dtype(self, dtype: Any) -> np.dtype:
        """The type that values of a type become: float32 or float64."""
        return np.result_type(dtype, np.float32)

    def __call__(self, values: Any) -> Any:
        """Converts numbers or arrays; computed in float64."""
        values = np.asarray(values)
        wide = values.astype(np.float64) * float(self.factor) + float(self.offset)
        return wide.astype(self.dtype(values.dtype))[()]


def told(unit: str) -> bool:
    """Whether a unit says anything.

    >>> told("K"), told("~")
    (True, False)
    """
    return _plain(unit).casefold() not in _UNTOLD


def conversion(unit: str, into: str) -> Conversion | None:
    """The exact conversion of values of a unit into another; None where there is none.

    Units are read as CF files, and people, spell them: `m s**-1`, `m/s`, `degrees_C`, `kg m-2`.
    Units that nothing is known of are equal where they are spelled alike.

    >>> conversion("mbar", "Pa")
    Conversion(factor=Fraction(100, 1), offset=Fraction(0, 1))
    >>> conversion("m s**-1", "km/h")
    Conversion(factor=Fraction(18, 5), offset=Fraction(0, 1))
    >>> conversion("K", "m") is None
    True
    """
    own, other = _parsed(unit), _parsed(into)
    if own is None and other is None and _plain(unit).casefold() == _plain(into).casefold():
        return Conversion()
    if own is None or other is None or not own.alike(other):
        return None
    return Conversion(own.scale / other.scale, (own.zero - other.zero) / other.scale)


@dataclass(frozen=True)
class _Unit:
    """A product of powers; a base that cancels, as in kg/kg, is kept with the power 0.

    A value of it is `value * scale + zero` in the product of its bases.
    """

    powers: tuple[tuple[str, int], ...] = ()
    scale: Fraction = Fraction(1)
    zero: Fraction = Fraction(0)

    def alike(self, other: "_Unit") -> bool:
        """Whether one can be expressed in the other: kg/kg in 1, but not in mol/mol."""
        if self.powers == other.powers:
            return True
        ratios = not any(power for _, power in self.powers + other.powers)
        return ratios and () in (self.powers, other.powers)

    def times(self, other: "_Unit", power: int) -> "_Unit":
        """With one more factor; what is part of a product has no zero of its own."""
        if abs(power) > _MOST_POWER:
            raise KeyError(power)
        powers = dict(self.powers)
        for base, own in other.powers:
            powers[base] = powers.get(base, 0) + own * power
        return _Unit(tuple(sorted(powers.items())), self.scale * other.scale**power)


def _plain(unit: str) -> str:
    """The unit without what makes no difference: kinds of signs and spaces."""
    text = unicodedata.normalize("NFKC", str(unit).replace("º", "°"))
    return " ".join(text.translate(_SIGNS).split())


def _degrees(name: str) -> tuple[Fraction, Fraction] | None:
    """Size and zero of degrees of temperature in kelvins, None where a name is none."""
    if found := _TEMPERATURE.fullmatch(re.sub("[ _.]", "", name).lower()):
        return _DEGREES[(found["letter"] or found["word"][0])]
    return None


@lru_cache(maxsize=512)
def _parsed(unit: str) -> _Unit | None:
    text = _plain(unit)
    if degrees := _DEGREES[text.lower()] if text in ("C", "F") else _degrees(text):
        return _Unit((("K", 1),), *degrees)
    text = re.sub(r"\bper\b", "/", text, flags=re.IGNORECASE)
    text = re.sub(r"^\(?0 ?- ?1\)?$", "1", text)
    # A number alone says no more than which table it is from: salt is told as 1e-3 and as 1.
    if len(text) > _LONGEST or (re.fullmatch(r"[\d.eE^* +-]+", text) and text != "1"):
        return None
    try:
        return _product(_tokens(text), 0)
    except (KeyError, ZeroDivisionError):
        return None


def _tokens(text: str) -> Iterator[re.Match[str]]:
    """The numbers, names and marks of a text; a KeyError where something is none of them."""
    at = 0
    while at < len(text):
        if (token := _TOKEN.match(text, at)) is None:
            raise KeyError(text[at])
        at = token.end()
        if not token["space"]:
            yield token


def _product(tokens: Iterator[re.Match[str]], depth: int) -> _Unit:
    """The product of what stands up to the end or a closing bracket; a KeyError where none is."""
    whole, sign = _Unit(), 1
    for token in tokens:
        if token["mark"] == "/":
            sign = -1
            continue
        if token["mark"] == ")":
            if not depth:
                raise KeyError(")")
            return whole
        if token["mark"] == "(":
            factor, power = _product(tokens, depth + 1), 1
        elif token["number"]:
            factor, power = _Unit(scale=Fraction(token["number"])), int(token["times"] or 1)
        elif token["name"]:
            factor, power = _named(token["name"]), int(token["power"] or 1)
        else:
            continue
        whole, sign = whole.times(factor, sign * power), 1
    if depth:
        raise KeyError("(")
    return whole


@lru_cache(maxsize=512)
def _named(name: str) -> _Unit:
    """The unit of one name: a symbol or a word, with or without a prefix."""
    if degrees := _degrees(name):  # In a product they are a difference.
        return _Unit((("K", 1),), degrees[0])
    symbol = name if name in _UNITS else _WORDS.get(name.lower())
    if symbol is not None:
        made_of = _UNITS[symbol]
        return _product(_tokens(made_of), 0) if made_of else _Unit(((symbol, 1),))
    for short, (long, power) in _PREFIXES.items():
        rest = name[len(short) :] if name.startswith(short) else ""
        if name.lower().startswith(long):
            rest = _WORDS.get(name.lower()[len(long) :], rest)
        if rest in _PREFIXED:
            return _Unit(scale=Fraction(10) ** power).times(_named(rest), 1)
    raise KeyError(name)
