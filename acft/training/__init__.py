"""What methods share: the jobs of a round, optimiser, validation, checkpoints, final report."""
