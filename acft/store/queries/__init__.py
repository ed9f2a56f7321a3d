"""What pages ask of the database: one function for each question, long answers in slices.

``runs``: settings that differ, earlier measurements. ``rollouts``: texts and scores. ``tokens``:
guidance, and which tokens pay. ``evaluations``: what was measured, and the trade-off.
``comparisons``: votes. ``audit``: sums that must agree. What fills a table or chart comes as an
``Answer``: the rows, and the SQL that gives them again in the SQL panel.
"""
