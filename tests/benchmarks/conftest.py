"""The benchmarks are in the source tree only: behind the packages, so that those are tested."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

collect_ignore_glob = [] if (ROOT / "benchmarks").is_dir() else ["test_*.py"]
sys.path.append(str(ROOT))
