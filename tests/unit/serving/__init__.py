"""Mirrors tsd/serving."""
