"""What was searched, shown and clicked: the append-only log that the shop learns from."""
