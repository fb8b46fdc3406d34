"""What nobody else is to see, taken out of a text: secrets, addresses, names of people and hosts.

It goes by the look of things, so it can miss what looks like nothing: `tsctl bugreport` says so."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

REMOVED = "[removed]"
HOST, USER, ADDRESS = "[host]", "[user]", "[address]"
# Shorter names, and these, are words that stand for something else, too.
LEAST_NAME = 3
COMMON_NAMES = {
    *("localhost", "root", "tsd", "nobody", "home", "user", "users", "admin", "debian", "ubuntu"),
}

# A text may begin within a key, or end within one.
END_OF_KEY = re.compile(
    r"\A(?:(?!-----BEGIN ).)*?-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----", re.DOTALL
)
PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
# Lines of units and of `systemctl show` whose whole value may be secret.
UNIT_VALUES = re.compile(
    r"^([ \t]*(?:Environment|SetCredential\w*)[ \t]*=)(?:.*\\\n)*.+$", re.MULTILINE
)
# Whatever the scheme, and however many cookies: up to the end of the line.
AUTHORIZATION = re.compile(
    r"(?i)\b((?:authorization|cookie)\\?[\"']?\s{0,4}[:=]\s{0,4}\\?[\"']?)[^\\\n\"']+"
)
BEARER = re.compile(r"(?i)\b(bearer\s+)[^\s\"',;]+")
# A value after a name that means a secret; but `tokens = true` tells nothing.
NAMED_SECRET = re.compile(
    r"(?i)((?:password|passwd|passphrase|secret|token|credential|key)s?(?![a-z])[\w.-]{0,60}"
    r"\\?[\"']?\s{0,4}[:=]\s{0,4})"
    r"(?!(?:true|false|null|none)\b)"
    r"(\[[^\[\]]{0,4096}\]|\\?\"[^\"\n]*\"?|\\?'[^'\n]*'?|[^\s\"',;&{}\[\]()]+)"
)
QUOTE = re.compile(r"\\?[\"']")
# Tokens that tell by themselves what they are: JSON web tokens, and those of well-known services.
WELL_KNOWN_TOKEN = re.compile(
    r"\b(?:eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|hf_\w{16,}|gh[opsur]_\w{16,}|AKIA[0-9A-Z]{16})"
)
URL = re.compile(
    r"\b([A-Za-z][A-Za-z0-9+-]{1,20}://)([^\s/\"'<>]*@)?([^\s?#\"'<>]*)([?#][^\s\"'<>]*)?"
)
HOME = re.compile(r"(/home/)[^/\s\"':;,]+")
IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![\w:])")


@dataclass(frozen=True)
class Redaction:
    """Takes out what looks secret, and these names."""

    hosts: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()

    def apply(self, text: str) -> str:
        text = PRIVATE_KEY.sub(REMOVED, END_OF_KEY.sub(REMOVED, text))
        text = UNIT_VALUES.sub(rf"\1{REMOVED}", text)
        text = AUTHORIZATION.sub(rf"\1{REMOVED}", text)
        text = BEARER.sub(rf"\1{REMOVED}", text)
        text = URL.sub(_bare_url, text)
        text = NAMED_SECRET.sub(_without_value, text)
        text = WELL_KNOWN_TOKEN.sub(REMOVED, text)
        text = HOME.sub(rf"\1{USER}", text)
        for pattern, name in self._names:
            text = pattern.sub(name, text)
        return IPV6.sub(_unless_own, IPV4.sub(_unless_own, text))

    @cached_property
    def _names(self) -> list[tuple[re.Pattern[str], str]]:
        named = ((self.hosts, HOST), (self.users, USER))
        return [(_any_of(names), name) for names, name in named if names]


def redaction_of(hosts: Iterable[str], users: Iterable[str]) -> Redaction:
    """The one for these names, but those that are common words; of a host, its short name, too."""
    short = [part for host in hosts for part in (host, host.partition(".")[0])]
    return Redaction(_telling(short), _telling(users))


def _telling(names: Iterable[str]) -> frozenset[str]:
    found = (name.strip() for name in names)
    return frozenset(n for n in found if len(n) >= LEAST_NAME and n not in COMMON_NAMES)


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    # The longest first, or a part of a name would be taken for it.
    words = sorted(names, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, words))})(?![\w-])")


def _bare_url(found: re.Match[str]) -> str:
    scheme, user, place, rest = found.groups()
    before = f"{REMOVED}@" if user else ""
    return scheme + before + place + (f"?{REMOVED}" if rest else "")


def _without_value(found: re.Match[str]) -> str:
    """The name, and what stood around the value, so that JSON and TOML stay what they are."""
    quote = QUOTE.search(found[2]) or QUOTE.search(found[1])
    mark = quote[0] if quote else ""
    return f"{found[1]}{mark}{REMOVED}{mark}"


def _unless_own(found: re.Match[str]) -> str:
    """An address in words of this machine only: loopback, or any."""
    try:
        address = ipaddress.ip_address(found[0])
    except ValueError:
        return found[0]
    return found[0] if address.is_loopback or address.is_unspecified else ADDRESS
