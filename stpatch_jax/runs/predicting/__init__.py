"""Predictions of a finished run for other files of the same kind, without its training data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stpatch_jax.errors import check_range, check_size, require
from stpatch_jax.files import has_suffix, usable
from stpatch_jax.runs.predicting.arrays import ArrayPredictor, ReconstructionPredictor, Room
from stpatch_jax.runs.predicting.detections import ClipDetectionPredictor, DetectionPredictor
from stpatch_jax.runs.predicting.fields import FieldPredictor
from stpatch_jax.runs.predicting.masks import MaskPredictor
from stpatch_jax.runs.predicting.pictures import (
    SHOWN_SUFFIXES,
    coloured,
    enlarged,
    frame_rate,
    with_boxes,
    write_each,
    write_frames,
    write_video,
)
from stpatch_jax.runs.predicting.predictor import Predictor, Request, predictors
from stpatch_jax.runs.predicting.tables import ClassPredictor, PricePredictor, long_table
from stpatch_jax.runs.predicting.texts import TextPredictor
from stpatch_jax.runs.trained import TrainedRun, load_run


@usable()
def predict(
    run: TrainedRun | str | Path,
    source: str,
    target: str | Path,
    *,
    every: int | None = None,
    length: int | None = None,
    told: Mapping[str, Any] | None = None,
    future: str | None = None,
    process_index: int | None = None,
    process_count: int | None = None,
    progress: bool = True,
) -> str:
    """Predicts a file with the model of a run; scaling and cleaning are the run's.

    What does it is found by the task and the data of the run, see `predictors`:

    | run | file | target |
    |---|---|---|
    | forecast of a field | what `open_field` reads | `.zarr`, `.nc`, `.csv`: see `FieldPredictor` |
    | forecast of prices | price table | `.csv`: see `PricePredictor` |
    | classes, numbers | file of items | `.csv`: see `ClassPredictor`, `NumberPredictor` |
    | boxes | pictures, videos, arrays | `.csv`: see `DetectionPredictor`; `.mp4`, `.png` |
    | classes of cells | images, or a folder | `.npz`, `.npy`, `.nc`, `.png`: see `MaskPredictor` |
    | hidden patches | items | `.npz`, `.npy`, `.nc`: see `ReconstructionPredictor` |
    | next frames | video, array, or a folder of them | the same, `.mp4`, `.png` |
    | next characters | text, or a folder of texts | `.txt`, `.csv`: see `TextPredictor` |
    | any other | what its `DataConfig.restore` reads | `.csv`: see `Predictor` |

    A `.mp4` or `.png` of several items, such as `boxes.mp4`, is a folder `boxes` of a file each.

    The data that the run was trained on are not needed. A field is read and written by regions, so
    it may be larger than memory; the same call goes on where another one was stopped, and ends with
    the same bits.

    Args:
        run: The run, or its directory.
        source: The file, folder or URL, of the same kind as the run's data.
        target: What to make. A `.zarr` of the same forecasts is gone on with, everything else must
            not exist yet.
        every: Forecasts begin every so many time steps, at each row from the first context on; None
            for one forecast, of what follows the file.
        length: Of a run that writes text the number of characters to add; 200 by default.
        told: How the file is read where that differs from the run's, as {"time": "date"}: some of
            the settings that `run.config.data.reading` names.
        future: A file of the covariates that are known in advance (`data.known`) over the horizon;
            by default they stand in the rows of `source` behind its last target.
        process_index: Number of this process, where several share a `.zarr` target.
        process_count: Number of processes.
        progress: Whether to show a bar on stderr.

    Returns:
        One sentence of what was written, and what was converted, left out or not known of the file.

    Raises:
        InputError: The run, the file or the target cannot be used; nothing was written.
    """
    target = Path(target)
    require(
        has_suffix(target, ".zarr") or not target.exists(),
        f"the output must be new, got {target}, which exists; choose another name",
    )
    require(
        target.parent.is_dir(),
        f"the output must lie in a folder that is there, got {target}; make {target.parent} first",
    )
    for name, count in (("every=", every), ("length=", length)):
        if count is not None:
            check_size(name, count)
    if process_count is not None or process_index is not None:
        check_size("process_count=", process_count)
        check_range("process_index=", process_index or 0, 0, process_count or 1, bounds="[)")
    trained = run if isinstance(run, TrainedRun) else load_run(run)
    data = trained.data(path=source, told=told, future=future)
    kind = predictors.of(trained.task, data)
    require(
        has_suffix(target, *kind.suffixes),
        f"the name of the output must end with {', '.join(kind.suffixes)}, got {target}; choose "
        "one of them",
    )
    request = Request(source, every, length, process_index, process_count, progress)
    written = kind(trained, data, request).write(target)
    notes = " ".join(data.report.get("notes", ()))
    return f"{written}. {notes}" if notes else written


__all__ = [
    "SHOWN_SUFFIXES", "ArrayPredictor", "ClassPredictor", "ClipDetectionPredictor",
    "DetectionPredictor", "FieldPredictor", "MaskPredictor", "Predictor", "PricePredictor",
    "ReconstructionPredictor", "Request", "Room", "TextPredictor", "coloured", "enlarged",
    "frame_rate", "long_table", "predict", "predictors", "with_boxes", "write_each",
    "write_frames", "write_video",
]  # fmt: skip
