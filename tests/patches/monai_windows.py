"""Writes `monai_windows.json`, the windows of MONAI's sliding window inference.

Run where MONAI is installed: `python tests/patches/monai_windows.py`.
"""

# pyright: reportMissingImports=false

import itertools
import json
from pathlib import Path

import monai
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval

rows = []
for size, window, overlap in itertools.product(
    (4, 5, 7, 16, 33), (1, 3, 4, 5, 16), (0, 0.1, 0.25, 0.5, 0.7, 0.9)
):
    if window <= size:  # MONAI pads what is smaller
        stride = _get_scan_interval((size,), (window,), 1, (overlap,))
        slices = dense_patch_slices((size,), (window,), stride)
        rows.append([size, window, overlap, stride[0], [int(one[0].start) for one in slices]])
lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
columns = json.dumps(["size", "window", "overlap", "stride", "starts"])
text = f'{{"monai": "{monai.__version__}", "columns": {columns}, "rows": [\n{lines}\n]}}\n'
Path(__file__).with_suffix(".json").write_text(text, encoding="utf-8")
