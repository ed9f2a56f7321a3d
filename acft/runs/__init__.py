"""Background processes: run directories, the worker, its state, and who starts and stops it."""
