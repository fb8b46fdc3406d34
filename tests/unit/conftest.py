"""What holds for all unit tests."""

from __future__ import annotations

from hypothesis import settings

# No test may fail because the machine was slow.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
