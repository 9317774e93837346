"""Segmenters and their arithmetic: arrays in, arrays out. No frames, no sockets, no video files."""
