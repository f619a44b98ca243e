"""Which examples are seen in which order: splits, samplers, batches."""
