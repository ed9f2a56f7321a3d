"""One file for each page; found by scanning this folder."""
