"""What is made of a trained run: load it, predict with it, evaluate it, list many."""
