"""The benchmarks are in the source tree only: where they are not, nothing here is collected."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
collect_ignore_glob = [] if (ROOT / "benchmarks").is_dir() else ["test_*.py"]
