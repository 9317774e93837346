"""Recorded sessions: written while a run goes on, and played back."""
