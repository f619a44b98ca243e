"""Volumes of NIfTI files, as they are stored: nothing is turned or resampled."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stpatch_jax.data.libraries import require_library
from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.data.sizes import check_bytes
from stpatch_jax.errors import listed, require, warn
from stpatch_jax.files import has_suffix

NIFTI_SUFFIXES = (".nii", ".nii.gz")
_KIND = "NIfTI volume"
# Places in millimetres are equal within this.
_ALIKE = 1e-3
# Cells as large as this tells, as a share, are of one size.
_AS_LARGE = 0.05


def read_nifti(path: str | Path) -> np.ndarray:
    """The values of a volume along its stored axes [i, j, k], with time or channels behind if any.

    They are scaled as the file says, float32; whole numbers that are not scaled stay as stored. An
    axis of length 1 behind the third is left out.
    """
    image = _opened(path)
    with parsing(path, _KIND):
        check_bytes(8 * int(np.prod(image.shape)), f"the volume {Path(path).name}")
        stored = np.asanyarray(image.dataobj)
        plain = stored.dtype.kind in "iu" and image.dataobj.slope == 1 and image.dataobj.inter == 0
        values = stored if plain else np.asarray(stored, np.float32)
    require(
        values.ndim >= 3 and values.dtype.kind in "iuf" and values.size > 0,
        f"{path} must hold a volume of numbers, got {values.dtype} of shape {values.shape}; save "
        "it as one",
    )
    more = tuple(n for n in values.shape[3:] if n > 1)
    return np.ascontiguousarray(values.reshape(*values.shape[:3], *more))


def affine_of(path: str | Path) -> np.ndarray:
    """Where the cells of a volume lie: what makes places in millimetres of i, j and k [4, 4]."""
    return np.asarray(_opened(path).affine, np.float64)


def same_places(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the cells of two volumes lie at the same places."""
    return bool(np.allclose(one, other, rtol=_ALIKE, atol=_ALIKE))


def orientation_of(path: str | Path) -> str:
    """Where i, j and k lead, such as RAS: to the right, to the front and up."""
    nibabel = require_library("nibabel", purpose="NIfTI files", install="stpatch_jax[nifti]")
    return "".join(end or "?" for end in nibabel.aff2axcodes(affine_of(path)))


def spacings_of(files: Iterable[Path]) -> dict[Path, np.ndarray]:
    """How far apart the cells of those that are NIfTI volumes lie along i, j and k [3]."""
    volumes = [file for file in files if has_suffix(file, *NIFTI_SUFFIXES)]
    return {file: np.linalg.norm(affine_of(file)[:3, :3], axis=0) for file in volumes}


def told_spacings(
    found: Mapping[Path, np.ndarray], *, trained: Sequence[float] = ()
) -> tuple[list[float], list[str]]:
    """The usual spacing of volumes, or that of a run, and a note on those that are of another.

    It is warned of as well, where a spacing differs by more than 5 %.
    """
    if not found:
        return [*trained], []
    usual = np.asarray(trained) if len(trained) else np.median([*found.values()], axis=0)
    others = [at for at, of in found.items() if (abs(of - usual) > _AS_LARGE * usual).any()]
    if not others:
        return usual.tolist(), []
    own, other = (" x ".join(f"{n:.3g}" for n in of) for of in (usual, found[others[0]]))
    note = (
        f"Cells lie {own} apart{' in the run' * bool(len(trained))}, and {other} in "
        f"{listed([file.name for file in others], most=2)}; none is resampled."
    )
    warn(note, stacklevel=4)
    return usual.tolist(), [note]


def nifti_bytes(mask: np.ndarray, like: str | Path) -> bytes:
    """A mask [i, j, k] of whole numbers as the bytes of a NIfTI file, at the places of a volume."""
    nibabel = require_library("nibabel", purpose="NIfTI files", install="stpatch_jax[nifti]")
    image = _opened(like)
    header = type(image.header)()
    header.set_xyzt_units(*image.header.get_xyzt_units())
    made = nibabel.Nifti1Image(mask, image.affine, header, dtype=mask.dtype)
    for name in ("sform", "qform"):
        code = int(image.header[f"{name}_code"])
        getattr(made, f"set_{name}")(image.affine, code=code or 1)
    return made.to_bytes()


def _opened(path: str | Path) -> Any:
    nibabel = require_library("nibabel", purpose="NIfTI files", install="stpatch_jax[nifti]")
    with parsing(path, _KIND):
        return nibabel.Nifti1Image.from_filename(path)
