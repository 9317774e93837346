"""Network files by preset, as package data. Holds no code."""
