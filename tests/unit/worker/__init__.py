"""Tests of tsd/worker that need no torch."""
