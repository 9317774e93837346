"""The sink that a person looks at: a window in a process of its own, its keys, and snapshots."""
