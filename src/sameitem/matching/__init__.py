"""Local features of two pictures and the geometry that their matches agree on."""
