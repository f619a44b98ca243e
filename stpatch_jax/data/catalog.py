"""Named data sets that other people published: where they come from, and where they are here."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stpatch_jax.data.libraries import require_library
from stpatch_jax.errors import InputError, check_choice, require

_GITHUB = "https://raw.githubusercontent.com"
_TIMEOUT_S = 30


@dataclass(frozen=True)
class CatalogEntry:
    """One published file.

    Attributes:
        file: Path below the folder `STPATCH_DATA`.
        sha256: Checksum of the file, hexadecimal.
        licence: Licence, or "none stated".
        source: Who published it, to cite.
        url: Where to fetch it; None where the file was made out of the published one.
    """

    file: str
    sha256: str
    licence: str
    source: str
    url: str | None = None


CATALOG: dict[str, CatalogEntry] = {
    "stocks": CatalogEntry(
        file="finance/stocks_ohlcv_2012_2017.csv.gz",
        sha256="e7795095c71bc93f90508a7cc4b57a1a990d37e9b96f72e0dc797e7646970be5",
        licence="none stated",
        source="StockNet prices as in fulifeng/Adv-ALSTM, 87 files joined",
    ),
    "acl18": CatalogEntry(
        file="finance/acl18_movement.npz",
        sha256="0d3c8e2eb45172e3d4e58160e2cb4e63ca8c0a188d55a144cfe23270885b0cbd",
        licence="none stated",
        source="fulifeng/Adv-ALSTM, files joined",
    ),
    "exchange_rate": CatalogEntry(
        file="finance/exchange_rate.csv",
        sha256="d55e7aa2641009814a18ba3279431b13f6d413b0eab195b9ff21988d8cf94e97",
        licence="MIT",
        source="junwoopark92/Self-Supervised-Contrastive-Forecsating",
        url=(
            f"{_GITHUB}/junwoopark92/Self-Supervised-Contrastive-Forecsating/"
            "e20c108114cf68d451c938712ad28dac5f83ef6e/dataset/exchange_rate/exchange_rate.csv"
        ),
    ),
    "etth1": CatalogEntry(
        file="finance/ETTh1.csv",
        sha256="f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
        licence="CC BY-ND 4.0",
        source="zhouhaoyi/ETDataset",
        url=f"{_GITHUB}/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv",
    ),
    "bikenyc": CatalogEntry(
        file="traffic/bikenyc_tail.npz",
        sha256="1461ecb2b7160732c20af0e970fd8b6e7183cd38d77a56728aa59c0463d79a38",
        licence="none stated",
        source="BikeNYC, rebuilt from the windows of Echo-Ji/ST-SSL",
    ),
    "era5_uk": CatalogEntry(
        file="weather/era5_t2m_uk_2019-03.nc",
        sha256="d5127e584d738863038df818a3f01bb221e789d0ec7471beaa2e01201f23a496",
        licence="Copernicus licence",
        source="ERA5 as in pydata/xarray-data, GRIB turned into netCDF",
    ),
    "mnist_images": CatalogEntry(
        file="video/t10k-images-idx3-ubyte.gz",
        sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        licence="none stated",
        source="MNIST, Y. LeCun, C. Cortes, C. J. C. Burges",
        url="https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
    ),
    "mnist_labels": CatalogEntry(
        file="video/t10k-labels-idx1-ubyte.gz",
        sha256="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        licence="none stated",
        source="MNIST, Y. LeCun, C. Cortes, C. J. C. Burges",
        url="https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz",
    ),
    "clip": CatalogEntry(
        file="video/mmaction2_demo.mp4",
        sha256="071e60535eaf0aed475ddac06269ee0cdfc4740158f22d9ccd2c3b93b42aa344",
        licence="Apache-2.0; rights of the clip unclear",
        source="open-mmlab/mmaction2",
        url=(
            f"{_GITHUB}/open-mmlab/mmaction2/d93c16a8d311f02ae9ce72883d3ca05faed245c7/demo/demo.mp4"
        ),
    ),
    "adrenal": CatalogEntry(
        file="medical/adrenalmnist3d.npz",
        sha256="8ffd78c0f000265deb7cf4ee0b454136fb3170f9839ecaa7bb01adf9f88aa7d1",
        licence="CC BY 4.0",
        source="MedMNIST v2",
        url="https://zenodo.org/records/10519652/files/adrenalmnist3d.npz",
    ),
    "ecg200_train": CatalogEntry(
        file="medical/ECG200_TRAIN.tsv",
        sha256="bffe8ea724a576f08ca6abcefa65d291fb7f0b6ebd6ff6c2caf876437d3d0ac1",
        licence="none stated",
        source="UCR Time Series Archive, labels 0/1",
    ),
    "ecg200_test": CatalogEntry(
        file="medical/ECG200_TEST.tsv",
        sha256="60ec3ecfc844403c80a5936b123b2a1829c83382d044568461affb66bd31d2c0",
        licence="none stated",
        source="UCR Time Series Archive, labels 0/1",
    ),
    "reviews_positive": CatalogEntry(
        file="text/rt-polarity.pos",
        sha256="2da124ec187a9d5a29c9f04e91c540e02baed5af8868f550a26bd6fd4dbf8bf0",
        licence="none stated",
        source="Pang and Lee (2005) via yoonkim/CNN_sentence",
        url=(
            f"{_GITHUB}/yoonkim/CNN_sentence/"
            "4abc8df1de694999ff54826854d3ebc53e3e9c20/rt-polarity.pos"
        ),
    ),
    "reviews_negative": CatalogEntry(
        file="text/rt-polarity.neg",
        sha256="4ace77d558c3714723843f1d65b60c01e3417b208180f0728808d76ad0eeeaca",
        licence="none stated",
        source="Pang and Lee (2005) via yoonkim/CNN_sentence",
        url=(
            f"{_GITHUB}/yoonkim/CNN_sentence/"
            "4abc8df1de694999ff54826854d3ebc53e3e9c20/rt-polarity.neg"
        ),
    ),
    "cdnow": CatalogEntry(
        file="customer/CDNOW_master.txt",
        sha256="eff6889ed364c5199d6eacbbeb7a6d559971df4406ac876f322c373f00a072ef",
        licence="none stated",
        source="B. Hardie via CamDavidsonPilon/lifetimes",
        url=(
            f"{_GITHUB}/CamDavidsonPilon/lifetimes/"
            "748620cd21c16bdb62ff1346e32c38ede7d62cb1/lifetimes/datasets/CDNOW_master.txt"
        ),
    ),
    "cdnow_sample": CatalogEntry(
        file="customer/CDNOW_sample.txt",
        sha256="6fae10155c0b0ba363c2c386e30f77990d22328220efd862a5edd1443420d94a",
        licence="none stated",
        source="B. Hardie, the published 1/10 sample",
    ),
}


def locate(name: str) -> Path:
    """The file of a data set of `CATALOG`: in the folder `STPATCH_DATA`, else in the user's cache.

    A file that is in neither place is fetched into the cache (`pooch.os_cache("stpatch_jax")`).
    Wherever it lies, its checksum is compared.

    Raises:
        InputError: If there is no such data set, it cannot be fetched, or its bytes are others.
    """
    check_choice("a data set of the catalog", name, tuple(CATALOG))
    entry = CATALOG[name]
    folder = os.environ.get("STPATCH_DATA")
    if folder and (path := Path(folder, entry.file)).is_file():
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        require(
            checksum == entry.sha256,
            f"{path} must be the published file of {name}, got the checksum {checksum[:12]}... in "
            f"place of {entry.sha256[:12]}...; restore it, or read it by its path",
        )
        return path
    if entry.url is None:
        raise InputError(
            f"the data set {name} must lie in the folder STPATCH_DATA as {entry.file}, as it was "
            f"made from the published one ({entry.source}), got none there; set STPATCH_DATA to "
            "the folder that has it"
        )
    return _fetched(name, entry, entry.url)


def _fetched(name: str, entry: CatalogEntry, url: str) -> Path:
    """The file in the user's cache; pooch fetches to a temporary name and compares checksums."""
    pooch = require_library("pooch", purpose=f"fetching {name}", install="stpatch_jax[catalog]")
    cache = Path(pooch.os_cache("stpatch_jax"))
    path = cache / entry.file
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(
            pooch.retrieve(
                url, entry.sha256, fname=path.name, path=path.parent, downloader=_download
            )
        )
    # Whatever the network library raises, all of it derives from OSError.
    except (OSError, ValueError) as error:
        raise InputError(
            f"the data set {name} must be fetched whole from {url}, got "
            f"{' '.join(str(error).split())[:300]}; try again, or put the file into the folder "
            f"STPATCH_DATA as {entry.file}"
        ) from error


def _download(url: str, output_file: Any, pooch: Any) -> None:
    """Streams a file from a server; unlike pooch's own, it closes the connection after an error."""
    import requests  # comes with pooch

    with (
        requests.get(url, stream=True, timeout=_TIMEOUT_S) as response,
        Path(output_file).open("wb") as file,
    ):
        response.raise_for_status()
        for part in response.iter_content(2**16):
            file.write(part)
