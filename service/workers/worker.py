"""One process of the service, without HTTP."""

from collections.abc import MutableSet
from dataclasses import dataclass, field
from pathlib import Path

from service.engine.readiness import Readiness
from service.engine.reconciler import Reconciler
from service.engine.registry import Registry
from service.observability.metrics import Metrics
from service.settings import Settings
from service.workers.coordination import Control, Index
from service.workers.ipc import Channel, SharedNames, Slot
from service.workers.totals import Totals


@dataclass(frozen=True)
class Place:
    """Where a worker stands among the others; by default it is the only one.

    ``unloaded`` are the models that no worker is to serve, kept where all workers find them.
    """

    channel: Channel = field(default_factory=Channel)
    slot: Slot | None = None
    unloaded: MutableSet[str] = field(default_factory=set)

    @classmethod
    def among(cls, folder: Path, slot: Slot) -> "Place":
        """A place in a folder that several workers share."""
        return cls(Channel(slot), slot, SharedNames(folder / "unloaded"))


class Worker:
    """The parts that every path of HTTP may ask."""

    def __init__(self, settings: Settings, metrics: Metrics, place: Place) -> None:
        self._metrics = metrics
        self.channel = place.channel
        self.registry = Registry(settings.device)
        self.readiness = Readiness(self.registry, settings.readiness)
        self.reconciler = Reconciler(settings, metrics, self.registry, place.unloaded)
        self.index = Index(self.registry, self.channel)
        self.control = Control(self.reconciler, self.channel, settings.worker_seconds)
        self.totals = Totals(metrics, self.channel, place.slot)

    async def start(self) -> None:
        """Load the models, and join the other workers.

        Raises:
            CannotStart: the machine does not allow what the settings ask.
        """
        self.totals.restore()
        await self.control.start()
        registry = self.registry
        found = {(it.name, it.version) for name in registry.names for it in registry.versions(name)}
        self._metrics.versions_found(found)
        self.readiness.started()
