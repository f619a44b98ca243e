"""Units: the spellings of files, and conversions that are exact or none at all."""

from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.constants
from hypothesis import given

from stpatch_jax.data.units import Conversion, conversion, told

# Spellings of one unit, as they stand in files of ERA5, CMIP6, NEMO, IMERG, GHCN and tables.
SPELLINGS = [
    ["K", "kelvin", "Kelvin", "degK", "deg_K", "degrees_kelvin", "degree K", " K "],
    ["degC", "degrees_C", "celsius", "Celsius", "deg C", "°C", "ºC", "℃", "degree_Celsius", "C"],
    ["degF", "Fahrenheit", "°F", "degrees_F", "F"],
    ["Pa", "pascal", "Pascals", "N m-2", "N/m2", "J m**-3"],
    ["hPa", "mbar", "mb", "millibar", "millibars", "hectopascal"],
    ["m s-1", "m/s", "m s**-1", "m.s-1", "m s^-1", "meters per second", "m·s⁻¹", "mps"],
    ["km h-1", "km/h", "kph", "kilometers/hour", "km/hr"],
    ["kt", "knots", "knot", "kts", "nmi/h"],
    ["kg m-2 s-1", "kg m**-2 s**-1", "kg/m^2/s", "kg/(m2 s)", "kg.m-2.s-1", "kg m⁻² s⁻¹"],
    ["mm/h", "mm hr-1", "mm h**-1", "millimetre/hour"],
    ["W m-2", "W m**-2", "W/m^2", "W/m²", "watt/m2", "J s-1 m-2"],
    ["m3 m-3", "m**3 m**-3", "m^3/m^3"],
    ["kg kg-1", "kg kg**-1", "kg/kg"],
    ["%", "percent", "Percent", "pct"],
    ["1", "fraction", "(0 - 1)", "0-1", "dimensionless"],
    ["ug m-3", "µg/m3", "μg m**-3", "microgram/m3"],
    ["degrees_north", "degree_north", "degrees_N", "degreeN", "degrees", "deg"],
    ["mm/month", "mm month-1"],
    ["dBZ", "dbz"],
]
# From, into, factor and offset by the tables of SciPy.
CONSTANTS = [
    ("degC", "K", 1, scipy.constants.zero_Celsius),
    ("degF", "K", scipy.constants.degree_Fahrenheit, 459.67 * 5 / 9),
    ("bar", "Pa", scipy.constants.bar, 0),
    ("atm", "hPa", scipy.constants.atm / 100, 0),
    ("knots", "m/s", scipy.constants.knot, 0),
    ("mph", "m/s", scipy.constants.mph, 0),
    ("km/h", "m/s", scipy.constants.kmh, 0),
    ("inch", "mm", scipy.constants.inch * 1000, 0),
    ("ft", "m", scipy.constants.foot, 0),
    ("mile", "km", scipy.constants.mile / 1000, 0),
    ("lb", "kg", scipy.constants.lb, 0),
    ("day", "s", scipy.constants.day, 0),
    ("kWh", "J", scipy.constants.hour * 1000, 0),
    ("radian", "degrees", 1 / scipy.constants.degree, 0),
    ("mm/day", "m s-1", 1e-3 / scipy.constants.day, 0),
    ("J m**-2", "kJ/m2", 1e-3, 0),
    ("g/kg", "kg kg**-1", 1e-3, 0),
    ("ppm", "ppb", 1e3, 0),
    ("%", "(0 - 1)", 1e-2, 0),
    ("m**3 m**-3", "%", 1e2, 0),
    ("degC m-1", "K/km", 1e3, 0),
    ("degF/day", "K/day", 5 / 9, 0),
]
# Not of one dimension, not exact, or in truth not known.
APART = [
    *[("K", "m"), ("m", "mm s-1"), ("J m-2", "W m-2"), ("kg m-2 s-1", "mm/day")],
    *[("kg kg-1", "mol mol-1"), ("1e-3", "1"), ("psu", "1e-3"), ("gpm", "m"), ("S", "s")],
    *[("m of water equivalent", "m"), ("inHg", "hPa"), ("mm/month", "mm/day"), ("dB", "1")],
    *[("m2 s-2", "m"), ("furlong", "m"), ("m/(s", "m/s"), ("", "K"), ("m/0", "m")],
    *[("m1000000000", "m"), ("10^1000000000 m", "m"), ("1e999999999 m", "m"), ("(" * 9999, "m")],
]
SPELLED = st.sampled_from(SPELLINGS).flatmap(lambda names: st.tuples(*[st.sampled_from(names)] * 2))


def exact(unit: str, into: str) -> Conversion:
    """The conversion that there must be."""
    found = conversion(unit, into)
    assert found is not None
    return found


@given(SPELLED)
def test_spellings_of_one_unit_are_one_unit(pair):
    same = exact(*pair)
    assert same == Conversion(Fraction(1))
    assert not same.changes


@pytest.mark.parametrize(("unit", "into", "factor", "offset"), CONSTANTS)
def test_conversions_are_those_of_scipy(unit, into, factor, offset):
    found = exact(unit, into)
    assert float(found.factor) == pytest.approx(factor, rel=1e-14)
    assert float(found.offset) == pytest.approx(offset, rel=1e-14)
    back = exact(into, unit)
    assert back.factor * found.factor == 1
    assert back.factor * found.offset + back.offset == 0


@pytest.mark.parametrize(("unit", "into"), APART)
def test_what_is_not_exact_is_not_converted(unit, into):
    assert conversion(unit, into) is None
    assert conversion(into, unit) is None


def test_temperatures_are_those_of_scipy():
    values = np.linspace(-100, 100, 21)
    words = {"degC": "Celsius", "degF": "Fahrenheit", "K": "Kelvin"}
    for unit, into in [("degC", "degF"), ("degF", "degC"), ("K", "degF"), ("degC", "K")]:
        expected = scipy.constants.convert_temperature(values, words[unit], words[into])
        np.testing.assert_allclose(exact(unit, into)(values), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "becomes"),
    [("float32", "float32"), ("float64", "float64"), ("int16", "float32"), ("int32", "float64")],
)
def test_floats_keep_their_type(dtype, becomes):
    to_kelvin = exact("degC", "K")
    converted = to_kelvin(np.arange(-3, 3).astype(dtype))
    assert converted.dtype == to_kelvin.dtype(dtype) == becomes
    np.testing.assert_array_equal(
        converted, (np.arange(-3, 3) + 273.15).astype(becomes), strict=True
    )
    assert to_kelvin(0.0) == 273.15


def test_marks_that_say_nothing_are_no_units():
    assert not any(map(told, ["", " ", "-", "~", "none", "Unknown"]))
    assert all(map(told, ["K", "1", "%", "furlong"]))


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_text_may_stand_for_a_unit(unit, other):
    assert not exact(unit, unit).changes
    one, back = conversion(unit, other), conversion(other, unit)
    assert (one is None) == (back is None)
