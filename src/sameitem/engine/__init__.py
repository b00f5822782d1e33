"""Index versions and the search in them: binary codes, coarse filter, fine ranking (article §03.1)."""
