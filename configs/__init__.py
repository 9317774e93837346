"""Configuration: the schema of every setting, the files that come with it, and the errors all parts raise."""
