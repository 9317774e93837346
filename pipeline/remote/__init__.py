"""Infer on another machine: the host, the tower's side, what they say to each other, and keys."""
