"""The machine that a command runs on: signals, files, terminal, processors and random streams."""
