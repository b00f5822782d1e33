"""Quality-aware score of the first 60 hits and the order it gives them (article §03.2)."""
