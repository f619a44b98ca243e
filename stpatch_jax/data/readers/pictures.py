"""Picture files, decoded where they are used."""

from pathlib import Path
from typing import Any

import numpy as np

from stpatch_jax.data.readers.guard import parsing
from stpatch_jax.data.readers.lazy import LazyArray

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_KIND = "picture"


class Picture(LazyArray):
    """A picture as the only frame of a clip, [time=1, height, width, channel=3], uint8.

    It is turned as the file says; grey ones have three equal channels, transparency is left out.
    Of 16 bits, in grey or colour, the upper 8 are read.
    """

    def __init__(self, path: str | Path):
        from PIL import Image

        self.path, self.dtype = path, np.dtype(np.uint8)
        with parsing(path, _KIND), Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            # From 5 on, the number that tells the turn tells one by a quarter.
            if image.getexif().get(0x0112, 1) >= 5:
                width, height = height, width
        self.shape = (1, height, width, 3)

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Decodes the picture, see `LazyArray.read`."""
        from PIL import Image, ImageOps

        with parsing(self.path, _KIND), Image.open(self.path, formats=_FORMATS) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # Conversion would cut off all above 255.
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            pixels = np.asarray(image.convert("RGB"))[None]
        for axis, part in enumerate(key):
            pixels = pixels[(slice(None),) * axis + (part,)]
        return pixels


def open_picture(path: str | Path) -> Any:
    """Opens a picture file as a field that is decoded where it is used, see `Picture`."""
    return Picture(path).field(("time", "height", "width", "channel"), {})
