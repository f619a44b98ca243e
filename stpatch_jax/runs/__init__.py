"""A run directory: configuration, training, judging, predicting, explaining, searching."""
