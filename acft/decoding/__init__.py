"""Ways to draw responses: one file each, found by scanning this folder."""
