"""Prompt sets and corpora: one file each, found by scanning this folder."""
