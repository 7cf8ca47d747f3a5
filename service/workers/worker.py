"""One process of the service, without HTTP."""

from collections.abc import MutableSet
from dataclasses import dataclass, field

from service.engine.readiness import Readiness
from service.engine.reconciler import Reconciler
from service.engine.registry import Registry
from service.observability.metrics import Metrics
from service.settings import Settings
from service.workers.coordination import ClusterIndex, ModelControl
from service.workers.ipc import Channel, SharedNameSet, Slot
from service.workers.totals import Totals


@dataclass(frozen=True)
class WorkerContext:
    """What a worker shares with the others; by default it is the only one.

    ``unloaded`` are the models that calls have unloaded.
    """

    channel: Channel = field(default_factory=Channel)
    slot: Slot | None = None
    unloaded: MutableSet[str] = field(default_factory=set)

    @classmethod
    def of_slot(cls, slot: Slot) -> "WorkerContext":
        """One of several workers."""
        return cls(Channel(slot), slot, SharedNameSet(slot.folder / "unloaded"))


class Worker:
    """The parts that all protocols use."""

    def __init__(self, settings: Settings, metrics: Metrics, context: WorkerContext) -> None:
        self._metrics = metrics
        self.channel = context.channel
        self.registry = Registry(settings.device)
        self.readiness = Readiness(self.registry, settings.readiness)
        self.reconciler = Reconciler(settings, metrics, self.registry, context.unloaded)
        self.index = ClusterIndex(self.registry, self.channel)
        self.control = ModelControl(self.reconciler, self.channel, settings.worker_seconds)
        self.totals = Totals(metrics, self.channel, context.slot)

    async def start(self) -> None:
        """Load the models, and join the other workers.

        Raises:
            CannotStart: the machine does not support the settings.
        """
        self.totals.restore()
        await self.control.start()
        registry = self.registry
        found = {(it.name, it.version) for name in registry.names for it in registry.versions(name)}
        self._metrics.versions_found(found)
        self.readiness.started()
