"""Mirrors tsd/models."""
