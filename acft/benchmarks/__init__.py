"""Suites that measure a policy: one file each, found by scanning this folder."""
