"""Run folders: one per run, every file written whole or not at all. Needs no torch."""
