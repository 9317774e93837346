"""The four stages, the links between them, and the supervisor that keeps them alive."""
