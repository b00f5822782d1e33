"""Models that are trained, their data and their export; the only package that imports PyTorch."""
