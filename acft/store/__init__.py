"""The database: a cache made from run directories, for pages that show part of many rows."""
