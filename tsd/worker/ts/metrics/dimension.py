"""A label of a metric."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dimension:
    """A label's name and its value."""

    name: str
    value: object

    def __str__(self) -> str:
        return f"{self.name}:{self.value}"

    def to_dict(self) -> dict[str, object]:
        return {"Name": self.name, "Value": self.value}
