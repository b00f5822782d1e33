"""Top-category prediction from arrays: the weighted kNN vote over a labelled reference set (article §01.2)."""
