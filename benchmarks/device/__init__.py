"""The parts of `python -m benchmarks.device`, and the process that gives each its time."""
