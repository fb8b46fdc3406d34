"""What may be asked at each door, by whom.

A door stands for one section of the API, or, where addresses are the same, for several; then
each route asks for the token of its own section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tsd.addresses import Address, parse_address
from tsd.api import open_inference, workflows
from tsd.api.access import CONTROL
from tsd.api.openapi import SECTIONS, OpenApi, Section
from tsd.api.routes import CallHandler, Check, PredictionHandler, Routes
from tsd.api.tokens import Kind, Tokens
from tsd.settings import Config, DoorSettings

# The Unix socket of this machine's services; who may open it, its file's mode says.
LOCAL = "local"
COMING_AND_GOING = (
    ("POST", "/models"),
    ("DELETE", "/models/{model}"),
    ("DELETE", "/models/{model}/{version}"),
)
Calls = Mapping[tuple[str, str], CallHandler]


@dataclass(frozen=True, slots=True)
class Handlers:
    """Everything that can be asked, before it is known where."""

    predictions: Mapping[str, PredictionHandler]
    ping: Calls
    health: Calls
    management: Calls
    metrics: Calls
    operator: Calls
    runtimes: Calls
    reload: Calls
    openapi: OpenApi


@dataclass(frozen=True, slots=True)
class Table:
    """Makes the routes of doors; without `tokens` nobody is asked for one."""

    handlers: Handlers
    config: Config
    tokens: Tokens | None = None

    def of_doors(self) -> dict[str, list[Routes]]:
        """Door -> its routes, those first that win where a path fits twice."""
        joined = sections_of_doors(self.config.doors)
        table = {LOCAL: self._local(), CONTROL: self._control()}
        for name in SECTIONS:
            table[name] = self._door(joined.get(name, (name,)))
        return table

    def _door(self, sections: Sequence[Section]) -> list[Routes]:
        routes = []
        if "http" in sections:
            routes.append(self._inference(self._check("inference")))
        if "management" in sections:
            calls = self._management(is_joined="http" in sections)
            routes.append(Routes({}, calls, self._check("management")))
            if self.tokens is not None:
                renew = {("*", "/token"): self.tokens.renew}
                routes.append(Routes({}, renew, self._check("API"), is_section=False))
        if "metrics" in sections:
            more = {} if self.config.torchserve.is_strict else self._health()
            routes.append(Routes({}, {**self.handlers.metrics, **more}))
        return [*routes, Routes({}, self.handlers.openapi.routes(sections))]

    def _local(self) -> list[Routes]:
        return [self._inference(None), Routes({}, self.handlers.openapi.routes(("http",)))]

    def _control(self) -> list[Routes]:
        """Everything, and whatever TCP callers may not: the kernel has said who calls."""
        handlers = self.handlers
        calls = {**handlers.management, **handlers.openapi.model_routes, **workflows.ROUTES}
        calls |= {**handlers.operator, **handlers.runtimes, **handlers.metrics, **handlers.reload}
        described = Routes({}, handlers.openapi.routes(SECTIONS))
        return [Routes({}, calls), self._inference(None), described]

    def _inference(self, check: Check | None) -> Routes:
        predictions = {**self.handlers.predictions, "wfpredict": workflows.predict}
        return Routes(predictions, self._health(), check)

    def _health(self) -> dict[tuple[str, str], CallHandler]:
        settings = self.config.torchserve
        if settings.open_inference:
            return {**self.handlers.ping, **open_inference.ROUTES}
        more = {} if settings.is_strict else self.handlers.health
        return {**self.handlers.ping, **more}

    def _management(self, *, is_joined: bool) -> dict[tuple[str, str], CallHandler]:
        calls = {**self.handlers.management, **self.handlers.openapi.model_routes}
        if not self.config.torchserve.is_strict:
            calls |= self.handlers.operator
        if not self.config.access.model_api:
            calls = {key: calls[key] for key in calls if key not in COMING_AND_GOING}
        if is_joined and self.config.torchserve.is_strict:
            # TorchServe's inference section takes these paths, and knows only `…/invoke`.
            calls = {key: calls[key] for key in calls if key[1] != "/models/{model}/{version}"}
        return {**calls, **workflows.ROUTES}

    def _check(self, kind: Kind) -> Check | None:
        return None if self.tokens is None else self.tokens.check_of(kind)


def sections_of_doors(doors: DoorSettings) -> dict[str, tuple[Section, ...]]:
    """Door -> what it stands for: equal addresses are one door, named after its first section.

    Where inference and management are one, the metrics are there, too, besides their own door."""
    found: dict[str, tuple[Section, ...]] = {}
    first: dict[object, str] = {}
    for section in SECTIONS:
        address = parse_address(getattr(doors, section))
        is_any_port = isinstance(address, Address) and address.port == 0
        if address is not None:
            name = section if is_any_port else first.setdefault(address, section)
            found[name] = (*found.get(name, ()), section)
    if found.get("http") == ("http", "management") and "metrics" in found:
        found["http"] = SECTIONS
    return found
