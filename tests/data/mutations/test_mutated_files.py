"""No file breaks a reader: each of many damaged ones gives values or one sentence.

Each batch is read in a process of its own, under a limit of memory and one of time a file, so that
a crash of a C library or a hang is the failure of that file.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from mutated_files import KINDS

LIBRARIES = {"video": ["av"], "grib": ["cfgrib"], "parquet": ["pyarrow"], "netcdf3": ["netCDF4"]}
LIBRARIES |= {"netcdf4": ["netCDF4"], "zarr2": ["zarr"], "zarr3": ["zarr"]}
SCRIPT = Path(__file__).with_name("mutated_files.py")


# A thread that is there before a fork is missing after it: NumPy's and Arrow's are not made.
ALONE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
ALONE["JE_ARROW_MALLOC_CONF"] = "background_thread:false"


@pytest.fixture(scope="module")
def reader():
    pipe = subprocess.PIPE
    command = [sys.executable, str(SCRIPT)]
    env = os.environ | ALONE
    with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True) as process:
        yield process


def outcomes(reader, kind, count, folder):
    """Number, outcome and message of each file; a process that ends early fails its last one."""
    done = []
    while len(done) < count:
        reader.stdin.write(json.dumps([kind, len(done), count, str(folder)]) + "\n")
        reader.stdin.flush()
        while isinstance(line := json.loads(reader.stdout.readline()), list):
            done.append(line)
        if len(done) < count:
            said = folder.with_name(f"{folder.name}.stderr").read_text()[-2000:]
            done.append([len(done), "failed", f"exit status {line}: {said}"])
    return done


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_gives_values_or_one_sentence(reader, kind, tmp_path, request):
    for library in LIBRARIES.get(kind, ()):
        pytest.importorskip(library)
    count = 2000 if request.config.getoption("--many") else 200
    done = outcomes(reader, kind, count, tmp_path)
    failed = [f"file {number}: {said}" for number, what, said in done if what == "failed"]
    # HDF5 goes round in a heap whose object has no size, ecCodes frees some memory twice: no reader
    # can catch that, and it is rare.
    ended = [said for said in failed if ": exit status" in said]
    if kind in ("netcdf4", "grib") and len(ended) <= count // 400:
        failed = [said for said in failed if said not in ended]
    assert not failed, f"{len(failed)} of {count} {kind} files:\n" + "\n".join(failed[:10])
    for number, what, said in done:
        if what == "refused":
            assert said.isprintable(), (number, said)
            assert " must " in said, (number, said)
            assert ", got " in said, (number, said)
            assert len(said) <= 700, (number, said)
    # The damage is neither harmless nor beyond reading.
    counts = Counter(what for _, what, _ in done)
    assert min(counts["value"], counts["refused"]) >= count // 50, counts
