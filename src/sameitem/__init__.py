"""Photo search for shops that learns from its own clicks."""

__version__ = "0.1.0"
