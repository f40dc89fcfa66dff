"""Measure one scorer under many callers: ``python -m benchmarks.load``."""
