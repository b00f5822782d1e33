"""Measures of quality and their intervals: pure NumPy, used by every part."""
