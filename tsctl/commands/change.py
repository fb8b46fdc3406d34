"""The commands that change models: register, unregister, scale, set-default.

Each is one request. The daemon does the work; here it is asked for, watched and confirmed."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path

from tsctl.client import NDJSON, Answer, Client, Request, target
from tsctl.console import Console
from tsctl.failure import Failure, Json, Status, from_error
from tsctl.progress import LiveProgress, PlainProgress, Redraw


def run(arguments: Namespace, client: Client, console: Console) -> None:
    request = REQUESTS[arguments.command](arguments)
    try:
        with client.ask(request) as answer:
            document = watch(answer, console)
    except KeyboardInterrupt:
        raise _left_alone(arguments.command) from None
    if console.is_json:
        console.show_json(document)
    else:
        console.confirm(confirmation(document))


def register_request(arguments: Namespace) -> Request:
    path = target(
        "models",
        url=archive_url(arguments.archive),
        model_name=arguments.model_name,
        handler=arguments.handler,
        batch_size=arguments.batch_size,
        max_batch_delay=arguments.max_batch_delay,
        initial_workers=arguments.initial_workers,
        response_timeout=arguments.response_timeout,
        startup_timeout=arguments.startup_timeout,
        runtime=arguments.runtime,
        synchronous=not arguments.no_wait,
    )
    return Request("POST", path, {"Accept": _accept(arguments)})


def scale_request(arguments: Namespace) -> Request:
    if arguments.workers is arguments.batch_size is arguments.max_batch_delay is None:
        why = "neither a number of workers nor a limit of batches is given"
        raise Failure(Status.USAGE, "there is nothing to change", why, "see `tsctl scale --help`")
    path = target(
        *_model_path(arguments),
        min_worker=arguments.workers,
        max_worker=arguments.workers,
        batch_size=arguments.batch_size,
        max_batch_delay=arguments.max_batch_delay,
        synchronous=not arguments.no_wait,
    )
    return Request("PUT", path, {"Accept": _accept(arguments)})


def unregister_request(arguments: Namespace) -> Request:
    return Request("DELETE", target(*_model_path(arguments)))


def set_default_request(arguments: Namespace) -> Request:
    return Request("PUT", target(*_model_path(arguments), "set-default"))


REQUESTS: dict[str, Callable[[Namespace], Request]] = {
    "register": register_request,
    "unregister": unregister_request,
    "scale": scale_request,
    "set-default": set_default_request,
}


def archive_url(archive: str) -> str:
    """A file or folder that is here, by its whole path; else a URL, or a name in the store."""
    path = Path(archive)
    return str(path.absolute()) if path.exists() else archive


def _model_path(arguments: Namespace) -> tuple[str, ...]:
    version = (arguments.version,) if arguments.version else ()
    return ("models", arguments.model, *version)


def _accept(arguments: Namespace) -> str:
    return "application/json" if arguments.no_wait else NDJSON


def watch(answer: Answer, console: Console) -> Json:
    """What the daemon says at the end; what it says on the way is shown as progress."""
    if answer.content_type != NDJSON:
        document: Json = answer.json()
        return document
    if console.is_quiet:
        return final_record(answer.records(), lambda _: None)
    if not console.is_live(console.errors):
        return final_record(answer.records(), PlainProgress(console.errors).show)
    live = LiveProgress(console.errors)
    with Redraw(live):
        return final_record(answer.records(), live.show)


def final_record(records: Iterable[Json], show: Callable[[Json], None]) -> Json:
    """The record that ends the stream, if it is a result; an error is raised."""
    for record in records:
        if "error" in record:
            raise from_error(record["error"], int(record["error"].get("code", 500)))
        if "result" in record:
            return record
        show(record)
    raise Failure(
        Status.UNREACHABLE,
        "the daemon left before the end",
        "it closed the connection without a result",
        "see `tsctl status`, and the daemon's last words in `journalctl -u tsd`",
    )


def confirmation(document: Json) -> str:
    """The daemon's own sentence."""
    return str(document.get("result", document).get("status", "done"))


def _left_alone(command: str) -> Failure:
    return Failure(
        Status.INTERRUPTED,
        f"no longer waiting for {command}",
        "interrupted from the keyboard; the daemon goes on with it",
        "`tsctl status` shows how far it is",
    )
