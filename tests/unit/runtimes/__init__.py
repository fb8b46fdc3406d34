"""Mirrors tsd/runtimes."""
