"""SQL files ``NNNN_what.sql``, applied once each, in order."""
