"""The data sets: what they are, how their files are read, split, scaled and augmented. Knows no model."""
