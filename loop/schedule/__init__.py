"""Which class is worth the next seconds: budget, cost model and reserve, all pure functions."""
