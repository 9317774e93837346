"""Sinks: where presented frames go, and the thread that writes each; the window has a package of its own."""
