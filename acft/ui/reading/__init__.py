"""What pages know of runs: histories, answers, pairs, tokens; no components."""
