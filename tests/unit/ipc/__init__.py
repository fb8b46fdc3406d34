"""Mirrors tsd/ipc."""
