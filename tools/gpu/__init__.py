"""The parts of tools/gpu_check.py; what is imported before anything is installed needs the standard library only."""
