"""`python -m stpatch_jax` is the command `stpatch`."""

import sys

from stpatch_jax.cli import main

sys.exit(main())
