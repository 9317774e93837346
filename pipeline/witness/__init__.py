"""The witness: a delay measured by a code in the picture, from outside, without our stamps."""
