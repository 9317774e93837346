"""Sources that play something recorded or rendered as if it were live."""
