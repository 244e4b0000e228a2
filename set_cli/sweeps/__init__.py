"""A sweep: every run in a process of its own, so that one that dies costs one run; the outcomes in one table."""
