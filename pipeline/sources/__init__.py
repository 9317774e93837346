"""Live sources: capture cards, network streams, screens and pipes, and what brings a lost one back."""
