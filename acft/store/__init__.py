"""The database: a cache made from run directories, with a good query for every page."""
