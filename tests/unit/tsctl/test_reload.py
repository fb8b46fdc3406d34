"""What tsctl reload prints."""

from __future__ import annotations

from tsctl.commands.reload import lines


def test_what_is_different_and_what_will_be() -> None:
    assert lines({"changed": [], "needs_restart": []}) == ["Reloaded: nothing changed"]
    assert lines({"changed": ["a", "b"], "needs_restart": ["c"]}) == [
        "Reloaded: a, b",
        "These need a restart: c",
    ]
