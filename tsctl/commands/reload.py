"""tsctl reload: have the daemon read its configuration again."""

from __future__ import annotations

from argparse import Namespace

from tsctl.client import ANSWER_TIMEOUT_S, Client, Request
from tsctl.console import Console
from tsctl.failure import Json


def run(_: Namespace, client: Client, console: Console) -> None:
    request = Request("POST", "/tsd/reload", timeout_s=ANSWER_TIMEOUT_S)
    with client.ask(request) as answer:
        told = answer.json()
    if console.is_json:
        console.show_json(told)
    else:
        for line in lines(told):
            console.confirm(line)


def lines(told: Json) -> list[str]:
    """What is different now, and what will be later."""
    changed, later = told.get("changed") or [], told.get("needs_restart") or []
    found = [f"Reloaded: {', '.join(changed) or 'nothing changed'}"]
    if later:
        found.append(f"These need a restart: {', '.join(later)}")
    return found
