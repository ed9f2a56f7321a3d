"""Tables like the paper's: the runs they need, and what these measured, with intervals."""
