"""How a model is trained: the supervised step, evaluation, the optimiser and its state."""
