"""Benchmarks: each script asks one question, prints the answer and writes it to `results`."""
