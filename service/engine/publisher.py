"""What callers see of one model: its offer in the registry, its gauges, and those that leave."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from service.engine.model import ServedModel
from service.engine.model_cache import Memory
from service.engine.offering import newest_first
from service.engine.registry import Entry, Offer, Registry, State
from service.observability.metrics import Metrics

_log = logging.getLogger(__name__)


class Publisher:
    """The only writer of what the registry offers of one model."""

    def __init__(self, name: str, registry: Registry, metrics: Metrics, memory: Memory) -> None:
        self._name = name
        self._registry = registry
        self._metrics = metrics
        self._memory = memory
        self._told: Mapping[str, tuple[State, str]] = {}

    @property
    def offer(self) -> Offer:
        """What is offered now."""
        return self._registry.offer(self._name)

    def find(self, asked: str | None) -> ServedModel | None:
        """What answers from memory now."""
        return self._registry.find(self._name, asked)

    def publish(self, offer: Offer) -> None:
        """Serve this from now on, and let go the models that are no longer in it."""
        before = self.offer.entries
        self._registry.put(self._name, offer)
        for version in {e.version for e in before} - {e.version for e in offer.entries}:
            self._metrics.version_removed(self._name, version)
        staying = {entry.model for entry in offer.entries if entry.model}
        for entry in before:
            if entry.model is not None and entry.model not in staying:
                self.let_go(entry, entry.model, "replaced" if staying else "not chosen")
        self._tell()

    def show(self, entry: Entry) -> None:
        """Tell of another state of one version; what answers to what stays."""
        offer = self.offer
        others = [other for other in offer.entries if other.version != entry.version]
        entries = newest_first([entry, *others])
        self._registry.put(self._name, replace(offer, entries=entries))
        self._tell()

    def let_go(self, entry: Entry, model: ServedModel, cause: str) -> None:
        """Let a model answer its last callers, and show it as UNLOADING meanwhile."""
        facts = {"model": self._name, "version": entry.version, "cause": cause}
        reason = "it answers its last callers"
        leaving = replace(entry, state=State.UNLOADING, reason=reason, model=None, asleep=False)
        if model.held:
            self._registry.leave(leaving)
            _log.info("model unloading", extra=facts)
        model.retire(partial(self._gone, leaving, model, facts))

    def _gone(self, leaving: Entry, model: ServedModel, facts: Mapping[str, object]) -> None:
        self._memory.left(model)
        self._registry.left(leaving)
        _log.info("model let go", extra=facts)
        self._tell()

    def _tell(self) -> None:
        """Bring the gauges in line with the index; versions that were not opened have none."""
        states = {
            entry.version: (entry.state, self._device(entry))
            for entry in self._registry.shown(self._name)
            if not entry.superseded and not entry.absent
        }
        for version, (state, device) in self._told.items():
            if states.get(version, (state, ""))[1] != device:
                self._metrics.model_gone(self._name, version, device)
        for version, (state, device) in states.items():
            if self._told.get(version) != (state, device):
                self._metrics.model_state(self._name, version, device, state)
        self._told = states

    def _device(self, entry: Entry) -> str:
        """Where a version runs, which its tuning.json may have chosen."""
        return entry.about.device if entry.about else self._registry.device.actual
