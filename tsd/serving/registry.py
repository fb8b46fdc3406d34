"""The book of models: name -> versions -> model, and which version is the default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tsd.errors import AlreadyRegistered, IsDefaultVersion, ModelNotFound, VersionNotFound
from tsd.serving.model import Model


@dataclass(slots=True)
class Named:
    """What a name, with a version or without one, stands for; None when it does so no more."""

    model: Model | None = None


@dataclass(slots=True)
class _Entry:
    default_version: str
    versions: dict[str, Model] = field(default_factory=dict)
    # By the version that was asked for; None: whatever is the default.
    named: dict[str | None, Named] = field(default_factory=dict)

    def follow(self) -> None:
        """Versions have come or gone, or another one is the default."""
        for version, named in list(self.named.items()):
            if named.model is not self.versions.get(version or self.default_version):
                named.model = None
                del self.named[version]


class Registry:
    """Changed by operations.py only; every request looks here first."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __iter__(self) -> Iterator[Model]:
        """Every version of every model, by name."""
        for name in sorted(self._entries):
            yield from self._entries[name].versions.values()

    @property
    def names(self) -> list[str]:
        """The names of all models, sorted."""
        return sorted(self._entries)

    def find(self, name: str, version: str | None = None) -> Model:
        """The model, in its default version unless one is named."""
        entry = self._entry(name)
        model = entry.versions.get(version or entry.default_version)
        if model is None:
            raise VersionNotFound(f"Model version: {version} does not exist for model: {name}")
        return model

    def named(self, name: str, version: str | None = None) -> Named:
        """As `find`, to be kept: it holds the model for as long as `find` would return that."""
        model = self.find(name, version)
        return self._entry(name).named.setdefault(version, Named(model))

    def versions(self, name: str) -> list[Model]:
        """All versions of a model."""
        return list(self._entry(name).versions.values())

    def default_version(self, name: str) -> str:
        """The version that answers when none is named."""
        return self._entry(name).default_version

    def check_free(self, name: str, version: str) -> None:
        """Raise AlreadyRegistered where that version is there."""
        entry = self._entries.get(name)
        if entry is not None and version in entry.versions:
            raise AlreadyRegistered(
                f"Model version {version} is already registered for model {name}",
                fix="unregister it first, or give the archive another version",
            )

    def add(self, model: Model) -> None:
        """Enter a version; the first one of a model becomes its default."""
        self.check_free(model.name, model.version)
        entry = self._entries.setdefault(model.name, _Entry(model.version))
        entry.versions[model.version] = model
        entry.follow()

    def check_removable(self, name: str, version: str | None) -> Model:
        """The model that may be removed; the default version goes last."""
        model = self.find(name, version)
        entry = self._entries[name]
        if model.version == entry.default_version and len(entry.versions) > 1:
            raise IsDefaultVersion(
                f"Cannot remove default version for model {name}",
                fix=f"make another version the default: tsctl set-default {name} VERSION",
            )
        return model

    def remove(self, model: Model) -> None:
        """Strike a version out."""
        entry = self._entries[model.name]
        del entry.versions[model.version]
        entry.follow()
        if not entry.versions:
            del self._entries[model.name]

    def check_version(self, name: str, version: str) -> Model:
        """The version that may become the default."""
        model = self._entry(name).versions.get(version)
        if model is None:
            raise VersionNotFound(f"Model version {version} does not exist for model {name}")
        return model

    def set_default(self, name: str, version: str) -> None:
        """Make a version the one that answers when none is named."""
        self.check_version(name, version)
        entry = self._entry(name)
        entry.default_version = version
        entry.follow()

    def set_default_if_known(self, name: str, version: str) -> None:
        """As `set_default`, for a version that may not have come back."""
        if version in self._entry(name).versions:
            self.set_default(name, version)

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise ModelNotFound(f"Model not found: {name}")
        return entry
