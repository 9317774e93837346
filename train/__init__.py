"""Training, evaluation and export of the networks; never imported by the live path."""
