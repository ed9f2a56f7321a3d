"""The auxiliary token-level model R: one file for each kind, found by scanning this folder."""
