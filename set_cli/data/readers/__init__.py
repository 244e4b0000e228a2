"""Readers of the upstream formats: verified bytes in, arrays out. They raise DataError and nothing else."""
