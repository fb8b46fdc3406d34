"""The book of models: versions, defaults, and what may be struck out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from tsd.errors import AlreadyRegistered, IsDefaultVersion, ModelNotFound, VersionNotFound
from tsd.serving.model import Model
from tsd.serving.registry import Registry


@dataclass(frozen=True)
class Named:
    name: str
    version: str


def named(name: str, version: str) -> Model:
    return cast(Model, Named(name, version))


@pytest.fixture
def registry() -> Registry:
    book = Registry()
    for version in ("1.0", "2.0"):
        book.add(named("m", version))
    book.add(named("a", "1.0"))
    return book


def test_the_first_version_is_the_default(registry: Registry) -> None:
    assert registry.find("m").version == "1.0"
    assert registry.find("m", "2.0").version == "2.0"
    assert registry.default_version("m") == "1.0"
    assert registry.names == ["a", "m"]
    assert [(model.name, model.version) for model in registry] == [
        ("a", "1.0"),
        ("m", "1.0"),
        ("m", "2.0"),
    ]
    assert [model.version for model in registry.versions("m")] == ["1.0", "2.0"]


def test_what_is_not_in_the_book_is_told(registry: Registry) -> None:
    with pytest.raises(ModelNotFound, match="Model not found: x"):
        registry.find("x")
    with pytest.raises(VersionNotFound, match=r"Model version: 3 does not exist for model: m"):
        registry.find("m", "3")
    with pytest.raises(VersionNotFound, match=r"Model version 3 does not exist for model m"):
        registry.set_default("m", "3")


def test_a_version_is_entered_once(registry: Registry) -> None:
    with pytest.raises(AlreadyRegistered):
        registry.add(named("m", "1.0"))


def test_the_default_goes_last(registry: Registry) -> None:
    with pytest.raises(IsDefaultVersion):
        registry.check_removable("m", None)
    registry.remove(registry.check_removable("m", "2.0"))
    registry.remove(registry.check_removable("m", None))
    assert registry.names == ["a"]


def test_another_default_can_be_set(registry: Registry) -> None:
    registry.set_default("m", "2.0")
    assert registry.find("m").version == "2.0"
    registry.set_default_if_known("m", "9")
    assert registry.find("m").version == "2.0"
    registry.set_default_if_known("m", "1.0")
    assert registry.find("m").version == "1.0"


def test_what_a_name_stands_for_is_known_until_it_changes(registry: Registry) -> None:
    one, two = registry.find("m", "1.0"), registry.find("m", "2.0")
    default, first = registry.named("m"), registry.named("m", "1.0")
    assert registry.named("m") is default
    assert [default.model, first.model] == [one, one]
    registry.add(named("m", "3.0"))
    assert [default.model, first.model] == [one, one]
    registry.set_default("m", "2.0")
    assert [default.model, first.model] == [None, one]
    assert registry.named("m").model is two
    registry.remove(registry.check_removable("m", "1.0"))
    assert [default.model, first.model] == [None, None]
    with pytest.raises(ModelNotFound):
        registry.named("x")


def test_a_name_that_comes_back_is_another_model(registry: Registry) -> None:
    before = registry.named("a")
    registry.remove(registry.check_removable("a", None))
    registry.add(named("a", "1.0"))
    assert before.model is None
    assert registry.named("a").model is registry.find("a")
