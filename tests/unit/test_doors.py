"""The doors as a reload finds them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.unit.http.test_listener import turning
from tests.unit.http.wire import echo, settings
from tsd.doors import Doors
from tsd.settings import Config, DoorSettings


def config(folder: Path, limit: int) -> Config:
    return msgspec.structs.replace(
        Config(),
        runtime_dir=folder,
        doors=DoorSettings(http="127.0.0.1:0", management="none", metrics="none"),
        http=settings(max_request_bytes=limit),
    )


def test_a_reload_binds_doors_that_are_open_and_those_that_open_later(tmp_path: Path) -> None:
    @turning
    async def reload() -> None:
        doors = Doors(config(tmp_path, 1), {}, echo)
        await doors.open_control()
        doors.configure(config(tmp_path, 2))
        await doors.open_others()
        try:
            assert {door.listener.limits.max_request_bytes for door in doors.open} == {2}
            assert len(doors.open) == 3
        finally:
            await doors.close(0)

    reload()
