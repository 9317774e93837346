"""Faults done on purpose: the fault matrix, the soak, and what they measure."""
