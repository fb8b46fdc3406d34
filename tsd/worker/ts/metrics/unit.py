"""The units of metrics, by the short names that handlers use."""

from __future__ import annotations

UNITS = {
    "ms": "Milliseconds",
    "s": "Seconds",
    "percent": "Percent",
    "count": "Count",
    "MB": "Megabytes",
    "GB": "Gigabytes",
    "kB": "Kilobytes",
    "B": "Bytes",
    "": "unit",
    None: "unit",
}


class Units:
    """TorchServe's way to the same names."""

    def __init__(self) -> None:
        self.units: dict[str | None, str] = dict(UNITS)
