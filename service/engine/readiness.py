"""Whether this process is to be sent requests: the one meaning of ready."""

from typing import Literal

from service.engine.registry import Registry, State

Strictness = Literal["lenient", "strict"]


class Readiness:
    """Ready when at least one model serves, and until the service begins to stop.

    Args:
        registry: the models.
        strictness: ``strict`` also asks that each model which was there at the start has served.
            What comes, breaks or is loading later changes nothing: the others serve.
    """

    def __init__(self, registry: Registry, strictness: Strictness) -> None:
        self._registry = registry
        self._strict = strictness == "strict"
        self._unproved: set[str] = set()
        self.draining = False

    def started(self) -> None:
        """Remember which models failed their first load, now that all have been tried."""
        self._unproved = {name for name in self._registry.names if self._failed(name)}

    def drain(self) -> None:
        """Be ready no more; what comes all the same is answered."""
        self.draining = True

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.obstacle is None

    @property
    def obstacle(self) -> str | None:
        """Why requests should not be sent here, or None."""
        if self.draining:
            return "The service is stopping."
        if not self._registry.ready:
            return "No model serves."
        # One that has been mended has shown itself; one that was removed is no longer wanted.
        self._unproved = {name for name in self._unproved if self._failed(name)}
        if self._strict and self._unproved:
            name = min(self._unproved)
            reason = self._registry.entry(name).reason
            return f"Model {name!r} has not served since the start: {reason}"
        return None

    def _failed(self, name: str) -> bool:
        entries = self._registry.offer(name).entries
        return bool(entries) and all(entry.state is State.UNAVAILABLE for entry in entries)
