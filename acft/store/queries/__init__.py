"""One function for each question a page asks; rows come down-sampled and in pages.

``runs``: list, curves, calibration, differences. ``rollouts``: texts and scores. ``tokens``:
guidance, and which tokens pay. ``evaluations``: suites and the trade-off. ``comparisons``: votes.
``audit``: sums that must agree. Each returns an ``Answer``: the rows, and the SQL that gives them
again in the SQL panel.
"""
