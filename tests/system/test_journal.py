"""The journal of a real machine: its fields, what explains them, and a journal that is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import make_archive
from tests.system.machine import Machine
from tsd.journal import MESSAGE_IDS

ARCHIVE = "/srv/models/speaking.mar"
SETTINGS = "/etc/tsd/tsd.toml.d/test-journal.toml"
LARGE = 100_000

SPEAKING = f"""
    import logging

    logger = logging.getLogger("my.handler")

    def handle(data, context):
        if data is None:
            return None
        print("printed")
        try:
            raise ValueError("of mine")
        except ValueError:
            logger.exception("caught")
        logger.error("x" * {LARGE})
        return ["ok"] * len(data)
"""


@pytest.fixture(scope="module")
def speaking(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The machine with a model that has something to say, also at length."""
    archive: Path = make_archive(tmp_path_factory.mktemp("speaking"), "speaking", SPEAKING)
    machine.copy_in(archive, ARCHIVE)
    machine.write(SETTINGS, f"[log]\nworker_line_bytes = {2 * LARGE}\n")
    machine.run("systemctl", "restart", "tsd")
    machine.run("tsctl", "register", ARCHIVE)
    yield machine
    machine.run("tsctl", "unregister", "speaking")
    machine.run("rm", SETTINGS)
    machine.run("systemctl", "restart", "tsd")


def ask(machine: Machine) -> str:
    """One prediction; the id of the request."""
    url = "http://127.0.0.1:8080/predictions/speaking"
    head = machine.run("curl", "-sSf", "-d", "x", "-D", "-", "-o", "/dev/null", url).stdout
    lines = [line.partition(": ") for line in head.splitlines()]
    return next(value for name, _, value in lines if name.lower() == "x-request-id")


def has(**fields: str) -> str:
    """The shell command that succeeds when the journal has such a record."""
    matches = " ".join(f"{name}={value}" for name, value in fields.items())
    return f"journalctl -q -u tsd -n1 {matches} | grep -q ."


def test_one_id_leads_from_the_answer_to_what_the_handler_said(speaking: Machine) -> None:
    request_id = ask(speaking)
    speaking.wait_for(has(TSD_REQUEST_ID=request_id, PRIORITY="3"))
    said = speaking.journal("tsd.service", TSD_REQUEST_ID=request_id)
    printed, caught, large = said
    for record in said:
        assert record["SYSLOG_IDENTIFIER"] == "tsd"
        assert (record["TSD_MODEL"], record["TSD_VERSION"]) == ("speaking", "1.0")
        assert (record["TSD_WORKER"], record["TSD_SOURCE"]) == ("1", "stdout")
        assert "CODE_FILE" not in record
    assert (printed["MESSAGE"], printed["PRIORITY"]) == ("printed", "6")
    assert (caught["TSD_LOGGER"], caught["PRIORITY"]) == ("my.handler", "3")
    assert caught["MESSAGE"].startswith("caught\nTraceback (most recent call last):\n")
    assert caught["MESSAGE"].endswith("\nValueError: of mine")
    assert large["MESSAGE"] == "x" * LARGE, "more than a datagram may have"


def test_events_have_their_ids_and_are_explained(speaking: Machine) -> None:
    (ready, *_) = speaking.journal("tsd.service", TSD_EVENT="model_ready", TSD_MODEL="speaking")
    assert ready["MESSAGE_ID"] == MESSAGE_IDS["model_ready"]
    assert (ready["CODE_FILE"], ready["CODE_FUNC"]) == ("tsd/serving/model.py", "_move")
    matches = ("TSD_EVENT=model_ready", "TSD_MODEL=speaking")
    explained = speaking.run("journalctl", "-x", "--no-pager", "-u", "tsd", *matches).stdout
    assert "Subject: Model speaking serves" in explained
    assert "Documentation: man:tsctl(1)" in explained
    assert "At least one worker of version 1.0 has loaded the model" in explained


def test_the_catalogue_of_the_machine_has_every_id(speaking: Machine) -> None:
    listed = speaking.run("journalctl", "--list-catalog", *MESSAGE_IDS.values()).stdout
    for message_id in MESSAGE_IDS.values():
        assert f"{message_id} tsd: " in listed


def dropped(machine: Machine) -> int:
    status = json.loads(machine.run("tsctl", "status", "--json").stdout)
    count = status["log_dropped"]
    assert isinstance(count, int)
    return count


def test_f40_a_stopped_journal_is_not_noticed_by_clients(speaking: Machine) -> None:
    before = dropped(speaking)
    speaking.run("systemctl", "kill", "--signal=STOP", "systemd-journald")
    try:
        url = "http://127.0.0.1:8080/predictions/speaking"
        asks = f"for i in $(seq 100); do curl -sSf -m2 -d x {url} >/dev/null || exit 1; done"
        speaking.run("sh", "-c", asks)
        while_away = dropped(speaking) - before
    finally:
        speaking.run("systemctl", "kill", "--signal=CONT", "systemd-journald")
    assert while_away > 0
    speaking.run("systemctl", "restart", "systemd-journald")
    # Until it has read what lies in its socket, records are still dropped.
    asked_at = speaking.run("date", "+%s.%6N").stdout.strip()
    again = f"curl -sSf -d x {url} >/dev/null"
    heard = f"journalctl -q -u tsd -n1 --since=@{asked_at} TSD_MODEL=speaking | grep -q ."
    speaking.wait_for(f"{again} && {heard}")
