"""Whether this process is ready for requests: the one definition of readiness."""

from typing import Literal

from service.engine.registry import Registry, State

Strictness = Literal["lenient", "strict"]


class Readiness:
    """Ready when at least one model serves, and until the service begins to stop.

    Args:
        registry: the models.
        strictness: ``strict`` also requires that each model that was there at the start has served.
            Models that are added or fail later change nothing: the others serve.
    """

    def __init__(self, registry: Registry, strictness: Strictness) -> None:
        self._registry = registry
        self._strict = strictness == "strict"
        self._never_served: set[str] = set()
        self.draining = False

    def started(self) -> None:
        """Note which models failed their first load, once all have been tried."""
        self._never_served = {name for name in self._registry.names if self._failed(name)}

    def drain(self) -> None:
        """Stop being ready; requests are still served."""
        self.draining = True

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.unready_reason is None

    @property
    def unready_reason(self) -> str | None:
        """Why requests should not be sent here, or None."""
        if self.draining:
            return "The service is stopping."
        if not self._registry.ready:
            return "No model serves."
        # A model that was fixed has served; one that was removed is no longer required.
        self._never_served = {name for name in self._never_served if self._failed(name)}
        if self._strict and self._never_served:
            name = min(self._never_served)
            reason = self._registry.entry(name).reason
            return f"Model {name!r} has not served since the start: {reason}"
        return None

    def _failed(self, name: str) -> bool:
        entries = self._registry.published(name).entries
        return bool(entries) and all(entry.state is State.UNAVAILABLE for entry in entries)
