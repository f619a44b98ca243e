"""What scores a task on data and tells it: one judge a kind, found by a registry."""

from stpatch_jax.runs.judging.alerts import FieldJudge
from stpatch_jax.runs.judging.classification import ClassJudge
from stpatch_jax.runs.judging.default import DefaultJudge
from stpatch_jax.runs.judging.detection import DetectionJudge
from stpatch_jax.runs.judging.forecast import ForecastJudge, error_figure
from stpatch_jax.runs.judging.judge import Judge, Judged, Shows, Tree, judges
from stpatch_jax.runs.judging.next_token import TextJudge
from stpatch_jax.runs.judging.reconstruction import ReconstructionJudge
from stpatch_jax.runs.judging.registry import Registry
from stpatch_jax.runs.judging.regression import RegressionJudge
from stpatch_jax.runs.judging.segmentation import SegmentationJudge
from stpatch_jax.runs.judging.tables import cell, markdown_table
from stpatch_jax.runs.judging.verdict import Losses, losses_of

__all__ = ["ClassJudge", "DefaultJudge", "DetectionJudge", "FieldJudge", "ForecastJudge", "Judge"]
__all__ += ["Judged", "ReconstructionJudge", "Registry", "RegressionJudge", "Shows", "TextJudge"]
__all__ += [
    "Losses",
    "SegmentationJudge",
    "Tree",
    "cell",
    "error_figure",
    "judges",
    "losses_of",
    "markdown_table",
]
