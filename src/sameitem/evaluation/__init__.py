"""Reports: how well a shop finds what its users photograph, in numbers with intervals and in pictures."""
