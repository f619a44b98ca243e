"""Labelled series, clips and volumes: one class for a whole field."""
