"""The article as two readable files: `offline` builds and publishes the index, `online` answers one photo."""
