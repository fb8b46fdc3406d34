"""Mirrors tsd/properties."""
