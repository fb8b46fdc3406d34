"""A label of a metric."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dimension:
    """A label's name and its value."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}:{self.value}"
