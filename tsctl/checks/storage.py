"""The state directory and the desired state in it; room on disk and in memory."""

from __future__ import annotations

import json
import os
import re
import stat

from tsctl.checks.finding import AS_ROOT, Finding, good, together, unseen, wrong
from tsctl.format import byte_count
from tsctl.machine import Machine, Scope

MIB = 1024 * 1024
LEAST_DISK, LEAST_FILES, LEAST_MEMORY = 1024 * MIB, 1000, 512 * MIB
MOST_STATE = 64 * MIB
DESIRED_STATE = "desired-state.json"


def state_directory(machine: Machine) -> Finding:
    name = machine.state_dir
    try:
        found = machine.path(name).stat()
    except PermissionError:
        return unseen(f"{name} is not to be seen", AS_ROOT)
    except OSError:
        return unseen(f"{name} is not there; the daemon makes it at its first start")
    if not stat.S_ISDIR(found.st_mode):
        return wrong(f"{name} is no directory", f"move it away: sudo mv {name} {name}.old")
    return together([_owned(machine, name, found), _desired_state(machine, name)])


def _owned(machine: Machine, name: str, found: os.stat_result) -> Finding:
    account = machine.service_account
    if account is not None and found.st_uid != account.uid:
        text = f"{name} belongs to user {found.st_uid}, not to {account.name}"
        return wrong(text, f"sudo chown -R {account.name}: {name}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return wrong(f"others than the daemon may write to {name}", f"sudo chmod go-w {name}")
    if found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        return wrong(f"the daemon may not write to {name}", f"sudo chmod u+rwx {name}")
    return good(name)


def _desired_state(machine: Machine, folder: str) -> Finding:
    name = f"{folder}/{DESIRED_STATE}"
    try:
        document = json.loads(machine.content(name, MOST_STATE))
        models = document["models"]
        finding = good(f"desired state of {len(models)} models")
    except FileNotFoundError:
        finding = good("no model was registered yet")
    except PermissionError:
        return unseen("the desired state is not readable for you", AS_ROOT)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        fix = f"the next start takes the one before; compare {folder}/desired-state.previous"
        return wrong(f"{name} cannot be read: {type(error).__name__}", fix)
    damaged = machine.path(folder) / "desired-state.bad"
    if not damaged.exists():
        return finding
    fix = f"compare with tsctl list, register what is missing, then sudo rm {folder}/{damaged.name}"
    return wrong("a damaged desired state was set aside", fix)


def disk(machine: Machine) -> Finding:
    places = [machine.state_dir]
    if machine.scope is Scope.SYSTEM:
        places.append("/var/cache/tsd")
    return together([_room(machine, place) for place in places])


def _room(machine: Machine, name: str) -> Finding:
    path = machine.path(name)
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        room = machine.space(path)
    except OSError as error:
        return unseen(f"{name}: {error.strerror}", AS_ROOT)
    free = room.f_bavail * room.f_frsize
    if room.f_flag & os.ST_RDONLY:
        return wrong(f"{name} is on a read-only file system", "see findmnt and dmesg")
    if free < LEAST_DISK:
        return wrong(
            f"{byte_count(free)} free for {name}", f"make room: sudo du -xh {name} | sort -h"
        )
    # File systems without a table of files say that there are none.
    if room.f_files and room.f_favail < LEAST_FILES:
        text = f"room for {room.f_favail} more files only in {name}"
        return wrong(text, f"make room: sudo du -x --inodes {name} | sort -n")
    return good(f"{byte_count(free)} free for {name}")


def memory(machine: Machine) -> Finding:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", machine.text("/proc/meminfo"), re.MULTILINE)
    if not found:
        return unseen("/proc/meminfo does not tell")
    available = 1024 * int(found[1])
    if available < LEAST_MEMORY:
        fix = "fewer workers: tsctl scale MODEL N; ps aux --sort -rss | head shows who has it"
        return wrong(f"{byte_count(available)} available", fix)
    return good(f"{byte_count(available)} available")
