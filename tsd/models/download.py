"""An archive from a URL, as a new file of the model store.

Only from where `archives.allowed_urls` says, each redirect included. A private address is reached
only where a rule names its host: a rule for every host means every public one. The address that
was checked is the one that is connected to. No proxy is asked, whatever the environment says."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import IO
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from tsd.errors import ArchiveExists, DownloadFailed, ModelNotFound, TsdError
from tsd.models.extraction import MAX_NAME_BYTES
from tsd.models.store import Origin, check_url
from tsd.settings import ArchiveSettings

SCHEME = re.compile(r"(https?|file)://", re.IGNORECASE)
VISIBLE = re.compile(r"[!-\[\]-~]+")
PARTIAL_PREFIX = ".downloading-"
# Hosts that no rule has in mind, unless it has all of them in mind.
OTHER_HOSTS = ("tsd.invalid", "192.0.2.1")
SILENCE_S = 10.0
CHUNK_BYTES = 1 << 20
MAX_REDIRECTS = 5
# Python takes both for public: IPv4's addresses behind a gateway, and the old private ones.
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
SITE_LOCAL = ipaddress.IPv6Network("fec0::/10")
FOUND, MOVED = 200, (301, 302, 303, 307, 308)


def is_url(url: str) -> bool:
    """Whether it is a URL, and no name in the model store."""
    return SCHEME.match(url) is not None


async def fetch(
    url: str, model_store: Path | None, limits: ArchiveSettings, *, may_exist: bool = False
) -> Origin:
    """Download the archive, unless it is there and may be.

    Raises what `Transfer.run` does, and DownloadFailed when its time is up."""
    transfer = Transfer(url, model_store, limits)
    if may_exist and await asyncio.to_thread(transfer.target.exists):
        return Origin(transfer.target, url)
    try:
        async with asyncio.timeout(limits.download_timeout_s):
            return Origin(await asyncio.to_thread(transfer.run), url)
    except TimeoutError as error:
        why = f"it took longer than {limits.download_timeout_s:g} s"
        raise transfer.failure(why) from error
    finally:
        transfer.abort()


def discard(origin: Origin) -> None:
    """Delete the file of a model that is no more, if it had been downloaded."""
    if origin.url:
        origin.path.unlink(missing_ok=True)


def discard_partial(model_store: Path | None) -> None:
    """Delete what a killed daemon had begun to download."""
    for path in model_store.glob(PARTIAL_PREFIX + "*") if model_store else ():
        path.unlink(missing_ok=True)


class Transfer:
    """One download, which another thread may abort."""

    def __init__(self, url: str, model_store: Path | None, limits: ArchiveSettings) -> None:
        self._url = check_url(url)
        self._limits = limits
        self._socket: socket.socket | None = None
        self._is_aborted = False
        split = self._checked(url)
        if model_store is None:
            raise ModelNotFound("Model store has not been configured.")
        self.target = model_store / self._file_name(split)

    def run(self) -> Path:
        """The file, whole. Raises ArchiveExists and DownloadFailed."""
        if self.target.exists():
            raise self._exists()
        try:
            with tempfile.NamedTemporaryFile(
                dir=self.target.parent, prefix=PARTIAL_PREFIX
            ) as partial:
                self._copy(partial)
                partial.flush()
                if self._is_aborted:
                    raise self.failure("it was given up")
                os.link(partial.name, self.target)
        except FileExistsError as error:
            raise self._exists() from error
        except (OSError, HTTPException, ValueError) as error:
            raise self.failure(str(error) or type(error).__name__) from error
        return self.target

    def abort(self) -> None:
        """End the download, if it still runs; what it waits for comes to nothing."""
        self._is_aborted = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def failure(self, why: str) -> DownloadFailed:
        """What the caller is told."""
        return DownloadFailed(f"Failed to download archive from: {self._url}", why=why)

    def _exists(self) -> ArchiveExists:
        return ArchiveExists(
            f"Model file already exists {self.target.name}",
            fix="register it by that name, or take it out of the model store",
        )

    def _copy(self, partial: IO[bytes]) -> None:
        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            split = self._checked(url)
            if split.scheme == "file":
                return self._copy_file(split, partial)
            with self._asked(url, split) as response:
                if response.status == FOUND:
                    return self._copy_body(response, partial)
                if response.status not in MOVED:
                    raise self.failure(f"the answer was {response.status} {response.reason}")
                url = urljoin(url, response.getheader("location", ""))
                if not url.lower().startswith("http"):
                    raise self.failure("it leads away from HTTP")
        raise self.failure(f"more than {MAX_REDIRECTS} redirects")

    def _copy_file(self, split: SplitResult, partial: IO[bytes]) -> None:
        path = Path(unquote(split.path))
        if not path.is_file() or split.hostname not in (None, "localhost"):
            raise self.failure("no such file")
        if path.stat().st_size > self._limits.max_download_bytes:
            raise self._too_large()
        with path.open("rb") as reading:
            shutil.copyfileobj(reading, partial, CHUNK_BYTES)

    def _copy_body(self, response: HTTPResponse, partial: IO[bytes]) -> None:
        stated = response.getheader("content-length")
        whole = int(stated) if stated is not None and not response.chunked else None
        copied = 0
        while whole is None or copied < whole:
            piece = response.read1(CHUNK_BYTES)
            if not piece:
                break
            copied += len(piece)
            if max(copied, whole or 0) > self._limits.max_download_bytes:
                raise self._too_large()
            partial.write(piece)
        if whole is not None and copied != whole:
            raise self.failure("the connection was closed before the end")

    @contextlib.contextmanager
    def _asked(self, url: str, split: SplitResult) -> Iterator[HTTPResponse]:
        is_https = split.scheme == "https"
        assert split.hostname is not None
        kind = HTTPSConnection if is_https else HTTPConnection
        connection = kind(split.hostname, split.port)
        connected = self._connected(url, split.hostname, connection.port)
        if is_https:
            context = ssl.create_default_context()
            connected = context.wrap_socket(connected, server_hostname=split.hostname)
        self._socket = connection.sock = connected
        with contextlib.closing(connection):
            if self._is_aborted:
                raise self.failure("it was given up")
            path = split._replace(scheme="", netloc="", fragment="").geturl() or "/"
            connection.request("GET", path, headers={"Accept": "*/*", "Connection": "close"})
            yield connection.getresponse()

    def _connected(self, url: str, host: str, port: int) -> socket.socket:
        """A connection to one of the host's addresses, all of which may be reached."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        is_named = self._names_host(url)
        is_open = self._limits.private_urls
        for *_, address in found:
            if not may_reach(str(address[0]), host, is_named=is_named, is_open=is_open):
                raise self.failure(
                    f"{host} is at {address[0]}, no public address, "
                    "and no rule of archives.allowed_urls names that host"
                )
        failure = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in found:
            connecting = socket.socket(family, kind, protocol)
            connecting.settimeout(SILENCE_S)
            try:
                connecting.connect(address)
            except OSError as error:
                connecting.close()
                failure = error
            else:
                return connecting
        raise failure

    def _checked(self, url: str) -> SplitResult:
        """The parts of the URL, if it is one that the rules allow."""
        try:
            split = urlsplit(url)
            is_good = split.port is None or split.port > 0
        except ValueError:
            is_good = False
        if not is_good or "@" in split.netloc or not VISIBLE.fullmatch(url):
            raise self._not_allowed("it is malformed, or holds a user's name")
        if not any(self._matches(rule, url) for rule in self._limits.allowed_urls):
            raise self._not_allowed("no rule of archives.allowed_urls allows it")
        if split.scheme != "file" and not split.hostname:
            raise self.failure("it names no host")
        return split

    def _names_host(self, url: str) -> bool:
        """Whether a rule allows the URL and would not allow it at any host."""
        split = urlsplit(url)
        port = f":{split.port}" if split.port else ""
        others = [split._replace(netloc=host + port).geturl() for host in OTHER_HOSTS]
        return any(
            self._matches(rule, url) and not any(self._matches(rule, other) for other in others)
            for rule in self._limits.allowed_urls
        )

    def _matches(self, rule: str, url: str) -> bool:
        try:
            return re.fullmatch(rule, url, re.IGNORECASE) is not None
        except re.error as error:
            raise self._not_allowed(f"the rule {rule!r} is no regular expression") from error

    def _file_name(self, split: SplitResult) -> str:
        name = unquote(split.path).rpartition("/")[2]
        if not name or name.startswith(".") or not name.isprintable() or "\\" in name:
            raise self._not_allowed("it does not end with a file's name")
        if len(name.encode()) > MAX_NAME_BYTES:
            raise self._not_allowed("its file's name is too long")
        return name

    def _not_allowed(self, why: str) -> TsdError:
        return ModelNotFound(
            f"Given URL {without_user(self._url)} does not match any allowed URL(s)",
            why=why,
            fix="allow it with archives.allowed_urls, or put the file into the model store",
        )

    def _too_large(self) -> DownloadFailed:
        most = self._limits.max_download_bytes
        return self.failure(f"it is larger than archives.max_download_bytes, {most}")


def may_reach(address: str, host: str, *, is_named: bool, is_open: bool = False) -> bool:
    """Whether an archive may come from that address, which `host` resolved to.

    A name that a rule names may lead into a private network, but not to this machine or its link:
    whoever answers for the name could then choose what is asked there. `is_open`: any name may
    lead anywhere but to the link."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        else:
            ip = ip.ipv4_mapped or ip.sixtofour or ip
    if ip.is_global and not ip.is_multicast and ip not in SITE_LOCAL:
        return True
    is_near = ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast
    if is_open:
        # Where clouds keep the machine's own secrets nobody keeps archives.
        return ip.is_loopback or not is_near
    return is_named and (not is_near or _is_literal(host))


def without_user(url: str) -> str:
    """The URL as it may be shown."""
    return re.sub(r"//[^/?#]*@", "//", url)


def _is_literal(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
