"""Products and their images: store, taxonomy, import, selection by attributes and quality, near-duplicates."""
