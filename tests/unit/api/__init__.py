"""Mirrors tsd/api."""
