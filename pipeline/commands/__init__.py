"""Commands of the command line, one module each: options, handed on to what does the work."""
