"""Metrics of sampled responses: one file each, found by scanning this folder."""
