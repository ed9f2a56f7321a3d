"""Browser plumbing that knows no run: nodes, charts, words, paging, who is admitted."""
