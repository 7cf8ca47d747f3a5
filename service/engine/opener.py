"""Opens versions in threads, a few at a time, and tells what became of each."""

import asyncio
import logging

from service.bundle.errors import BundleError
from service.engine.loading import load
from service.engine.model import Limits
from service.engine.offering import refused
from service.engine.registry import Entry, State
from service.engine.repository import Candidate, fingerprint
from service.engine.session import ActualDevice
from service.errors import GraphRefused, LoadFailed
from service.metrics import Metrics
from service.settings import Settings

# Two, so that one model's long load does not hold up another's, and the start is not a stampede.
_AT_ONCE = 2

_log = logging.getLogger(__name__)


class Opener:
    """Opens, checks, proves and warms versions on one device."""

    device: ActualDevice = "cpu"

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._threads = settings.threads
        self._limits = Limits(settings.max_batch_rows, settings.max_queued_rows)
        self._metrics = metrics
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def open(self, candidate: Candidate) -> Entry:
        """The version as READY, or as UNAVAILABLE with the reason; nothing is raised."""
        async with self._turns:
            return await asyncio.to_thread(self._opened, candidate)

    def _opened(self, candidate: Candidate) -> Entry:
        name, version = candidate.name, candidate.version
        facts = {"model": name, "version": version}
        servable = True
        try:
            model = load(candidate, self.device, self._threads, self._limits, self._metrics)
            _require_untouched(candidate)
        except (BundleError, LoadFailed) as error:
            reason = str(error)
            servable = not isinstance(error, GraphRefused)
        except Exception as error:  # noqa: BLE001 - whatever one model does, the others serve
            _log.exception("model broke while loading", extra=facts)
            reason = f"{type(error).__name__} while loading: {error}"
        else:
            facts |= {"device": self.device, "execution": model.execution}
            _log.info("model ready", extra=facts)
            return Entry(name, version, State.READY, model=model, fingerprint=candidate.fingerprint)
        _log.error("model refused", extra=facts | {"reason": reason})
        return refused(candidate, reason, servable=servable)


def _require_untouched(candidate: Candidate) -> None:
    """See that nobody wrote into the folder meanwhile; the next look finds it changed."""
    if fingerprint(candidate.folder) != candidate.fingerprint:
        raise LoadFailed("its files changed while it was loaded; it is looked at again")
