"""Opens versions in threads, a few at a time, and tells what became of each."""

import asyncio
import logging
from collections.abc import Callable, Collection
from time import perf_counter

from service.bundle.errors import BundleError
from service.engine.execution_plan import plan_for
from service.engine.loader import load
from service.engine.metadata import peek
from service.engine.model import Limits, ServedModel
from service.engine.model_cache import Memory, Occupant
from service.engine.offering import refused
from service.engine.registry import Entry, State
from service.engine.repository import Candidate, fingerprint
from service.engine.sandbox import PATIENCE_SECONDS, Rehearsal
from service.engine.statistics import Statistics
from service.engine.threads import in_daemon_thread
from service.errors import GraphRefused, LoadFailed
from service.observability.metrics import Metrics
from service.settings import Settings

# Two, so that one model's long load does not hold up another's, and the start is not a stampede.
_AT_ONCE = 2

_log = logging.getLogger(__name__)


class Opener:
    """Opens, checks, proves and warms versions on one device."""

    device: str = "cpu"

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.memory = Memory(settings.memory_budget_mib, settings.max_loaded_models, metrics)
        self._settings = settings
        self._limits = Limits(
            settings.max_batch_rows, settings.max_queued_rows, settings.deadline_seconds
        )
        self._metrics = metrics
        self._turns = asyncio.Semaphore(_AT_ONCE)
        isolated = settings.load_isolation == "process"
        self._rehearsal = Rehearsal(settings.threads or 1) if isolated else None

    async def open(
        self,
        candidate: Candidate,
        statistics: Statistics,
        occupant: Callable[[ServedModel], Occupant],
        beside: Collection[ServedModel] = (),
    ) -> Entry:
        """The version as READY, or as UNAVAILABLE with the reason; nothing is raised.

        Args:
            candidate: the version.
            statistics: where it goes on counting.
            occupant: how its model is to leave memory.
            beside: the models that stay in memory until it is open.
        """
        room = await self.memory.enter(candidate, beside)
        model = None
        try:
            async with self._turns:
                entry = await self._in_time(candidate, statistics)
            model = entry.model
        finally:
            if model is None:
                self.memory.leave(room)
        if model is not None:
            self.memory.settle(room, candidate, occupant(model))
        return entry

    async def _in_time(self, candidate: Candidate, statistics: Statistics) -> Entry:
        """The version, opened in a thread; UNAVAILABLE where that does not end."""
        # The other process has shown that it ends, and its attempts wait for each other.
        bound = PATIENCE_SECONDS if self._rehearsal is None else None
        try:
            async with asyncio.timeout(bound):
                return await in_daemon_thread(self._tried, self._opened, candidate, statistics)
        except TimeoutError:
            reason = f"it is not loaded after {PATIENCE_SECONDS:g} s"
            facts = {"model": candidate.name, "version": candidate.version, "reason": reason}
            _log.error("model refused", extra=facts)
            return refused(candidate, reason)

    async def close(self) -> None:
        """End what is needed no more."""
        if self._rehearsal is not None:
            await asyncio.to_thread(self._rehearsal.close)

    async def peek(self, candidate: Candidate) -> Entry:
        """The version as READY, to be loaded by its first request, or as UNAVAILABLE."""
        return await asyncio.to_thread(self._tried, self._peeked, candidate)

    def _tried(self, attempt: Callable[..., Entry], candidate: Candidate, *rest: object) -> Entry:
        """What an attempt gives, or the entry that tells why it failed."""
        facts = {"model": candidate.name, "version": candidate.version}
        servable = True
        try:
            self.memory.require_possible(candidate)
            return attempt(candidate, *rest)
        except (BundleError, LoadFailed) as error:
            reason = str(error)
            servable = not isinstance(error, GraphRefused)
        except Exception as error:  # noqa: BLE001 - whatever one model does, the others serve
            _log.exception("model broke while loading", extra=facts)
            reason = f"{type(error).__name__} while loading: {error}"
        _log.error("model refused", extra=facts | {"reason": reason})
        return refused(candidate, reason, servable=servable)

    def _opened(self, candidate: Candidate, statistics: Statistics) -> Entry:
        name, version = candidate.name, candidate.version
        started = perf_counter()
        ready = False
        try:
            if self._rehearsal is not None:
                self._rehearsal.try_out(candidate, self.device)
            plan = plan_for(self._settings, self.device)
            model = load(candidate, plan, self._limits, self._metrics, statistics)
            _require_untouched(candidate)
            ready = True
        finally:
            seconds = perf_counter() - started
            self._metrics.loaded(seconds, ready=ready)
            if self.memory.limited:
                self.memory.heap.give_back()
        facts: dict[str, object] = {"model": name, "version": version}
        facts |= {"device": model.about.device, "execution": model.execution}
        facts |= {"milliseconds": round(seconds * 1e3)}
        _log.info("model ready", extra=facts)
        return Entry(
            name,
            version,
            State.READY,
            model=model,
            about=model.about,
            fingerprint=candidate.fingerprint,
        )

    def _peeked(self, candidate: Candidate) -> Entry:
        about = peek(candidate, self.device, self._limits.batch_rows)
        return Entry(
            candidate.name,
            candidate.version,
            State.READY,
            ASLEEP,
            asleep=True,
            about=about,
            fingerprint=candidate.fingerprint,
        )


ASLEEP = "its first request loads it"


def _require_untouched(candidate: Candidate) -> None:
    """See that nobody wrote into the folder meanwhile; the next look finds it changed."""
    if fingerprint(candidate.folder) != candidate.fingerprint:
        raise LoadFailed("its files changed while it was loaded; it is looked at again")
