"""What a check says: one line, whether that is good, and what to type where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

AS_ROOT = "run it as root to see this: sudo tsctl doctor"


@dataclass(frozen=True)
class Finding:
    """`ok` is None where there is nothing to check, or nothing that the caller may see."""

    ok: bool | None
    text: str
    fix: str = ""


def good(text: str) -> Finding:
    return Finding(ok=True, text=text)


def wrong(text: str, fix: str) -> Finding:
    return Finding(ok=False, text=text, fix=fix)


def unseen(text: str, fix: str = "") -> Finding:
    """Not applicable, or not to be seen; then the fix says how it could be."""
    return Finding(ok=None, text=text, fix=fix)


def together(findings: Sequence[Finding]) -> Finding:
    """One finding for several: what is wrong, else what is not seen, else all of it."""
    oks = [finding.ok for finding in findings]
    worst = False if False in oks else None if None in oks else True
    kept = [finding for finding in findings if finding.ok is worst]
    fixes = dict.fromkeys(finding.fix for finding in kept if finding.fix)
    return Finding(worst, ", ".join(finding.text for finding in kept), "; ".join(fixes))
