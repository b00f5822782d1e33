"""Shared nouns: errors, records, settings, image intake, database, jobs; no decisions."""
