"""tsd's settings as the properties of TorchServe: what a snapshot keeps."""

from __future__ import annotations

from collections.abc import Mapping

from tsd.properties import doors
from tsd.properties.keys import KEYS


def properties_of(settings: Mapping[str, object]) -> dict[str, str]:
    """All keys that say something, from settings by dotted key; read back, they mean the same."""
    found = doors.write(settings)
    for name, key in KEYS.items():
        value = settings[key.setting]
        if value not in (None, "", ()):
            found[name] = key.form.write(value)
    return found
