"""Preprocessing on a device."""
