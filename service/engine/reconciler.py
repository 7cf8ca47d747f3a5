"""Brings the registry in line with the models folder: at the start, on a call, and while watching.

A version is opened, checked, proved and warmed in a thread while the one before it serves; the
swap is one assignment on the event loop. What fails is kept with its reason, and tried again only
when its files have changed.
"""

import asyncio
import logging
from collections.abc import MutableSet, Sequence

from service.bundle.errors import BundleError
from service.engine.loading import load
from service.engine.model import Limits
from service.engine.registry import Entry, Registry, State
from service.engine.repository import Candidate, scan
from service.engine.session import choose_device
from service.errors import (
    GraphRefused,
    LoadFailed,
    ModelNotFound,
    ModelUnservable,
    NotAllowed,
)
from service.metrics import Metrics
from service.settings import Settings

_log = logging.getLogger(__name__)


class Reconciler:
    """The only writer of a registry.

    Args:
        unloaded: the models that calls have taken out of service; workers share it.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        registry: Registry,
        unloaded: MutableSet[str] | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._registry = registry
        self._limits = Limits(settings.max_batch_rows, settings.max_queued_rows)
        self._one_at_a_time = asyncio.Lock()
        self._unloaded: MutableSet[str] = set() if unloaded is None else unloaded
        self._told: set[tuple[str, str]] = set()
        self._problems: frozenset[str] = frozenset()

    async def start(self) -> None:
        """Find the device and load every model of the folder.

        Raises:
            DeviceUnavailable: the device that was demanded cannot be used.
            NoModels: there is no models folder.
        """
        device = await asyncio.to_thread(choose_device, self._settings.device)
        self._registry.device = device
        self._metrics.device(device.requested, device.actual)
        facts: dict[str, str] = {"requested": device.requested, "actual": device.actual}
        _log.info(
            "device chosen", extra=facts | ({"reason": device.reason} if device.reason else {})
        )
        await self.refresh()

    async def watch(self) -> None:
        """Look at the folder over and over; a folder that cannot be read changes nothing."""
        told = ""
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            reason = ""
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look may succeed
                reason = str(error)
            if reason and reason != told:
                _log.error("models folder cannot be read", extra={"reason": reason})
            told = reason

    async def refresh(self) -> None:
        """Load what is new or changed, and let go what is no longer there.

        Raises:
            NoModels: there is no models folder.
        """
        async with self._one_at_a_time:
            found = await asyncio.to_thread(self._scanned)
            for name in self._registry.names:
                if name not in found:
                    self._swap(name, [])
            for name in set(self._unloaded).difference(found):
                self._unloaded.discard(name)
            for name, candidates in found.items():
                if name in self._unloaded:
                    self._take_out(name, candidates[0].version)
                else:
                    await self._reconcile(name, candidates)

    async def load_model(self, name: str) -> None:
        """Look at one model again, or for the first time.

        Raises:
            NotAllowed: the operator has not switched this on.
            ModelNotFound: the folder has no such model.
            ModelUnservable: its newest version does not prove itself; what served before serves.
        """
        self._require_control()
        self._unloaded.discard(name)
        await self.reload_model(name)

    async def reload_model(self, name: str) -> None:
        """Open a model again, unless a call has taken it out of service.

        Raises:
            ModelNotFound: the folder has no such model.
            ModelUnservable: its newest version does not prove itself; what served before serves.
        """
        async with self._one_at_a_time:
            found = await asyncio.to_thread(self._scanned)
            if name not in found:
                raise ModelNotFound(name, list(found))
            if name in self._unloaded:
                self._take_out(name, found[name][0].version)
                return
            await self._reconcile(name, found[name], again=True)
            newest = self._registry.versions(name)[0]
            if newest.model is None or newest.reason:
                raise ModelUnservable(name, newest.version, newest.reason)

    async def unload_model(self, name: str) -> None:
        """Take a model out of service until it is loaded again.

        Raises:
            NotAllowed: the operator has not switched this on.
            ModelNotFound: there is no such model.
        """
        self._require_control()
        async with self._one_at_a_time:
            newest = self._registry.versions(name)[0]
            self._unloaded.add(name)
            self._take_out(name, newest.version)

    async def close(self) -> None:
        """Let every model finish what waits, and forget them."""
        for model in list(self._registry.models()):
            await model.close()
        for name in self._registry.names:
            self._swap(name, [])

    def _take_out(self, name: str, version: str) -> None:
        """Serve no version of a model, and say why."""
        gone = Entry(name, version, State.UNAVAILABLE, "it was unloaded by a call")
        if list(self._registry.known(name)) != [gone]:
            self._swap(name, [gone])

    async def _reconcile(
        self, name: str, candidates: Sequence[Candidate], *, again: bool = False
    ) -> None:
        """Open the newest versions until one serves; the others are told with their reasons.

        Args:
            name: the model.
            candidates: its versions on disk, newest first.
            again: whether to open even what has not changed.
        """
        known = {entry.version: entry for entry in self._registry.known(name)}
        result: list[Entry] = []
        for place, candidate in enumerate(candidates):
            entry = known.get(candidate.version)
            if entry is None or again or entry.fingerprint != candidate.fingerprint:
                self._announce(candidate, result)
                opened = await asyncio.to_thread(self._opened, candidate)
                entry = _kept(entry, opened)
            result.append(entry)
            if entry.model is not None:
                result += [_superseded(older, entry.version) for older in candidates[place + 1 :]]
                break
        self._swap(name, result)

    def _announce(self, candidate: Candidate, newer: Sequence[Entry]) -> None:
        """Show a version as LOADING, unless it is one that serves while it is looked at again."""
        known = self._registry.known(candidate.name)
        if any(entry.version == candidate.version and entry.model for entry in known):
            return
        loading = Entry(candidate.name, candidate.version, State.LOADING, "it is being loaded")
        seen = {entry.version for entry in (*newer, loading)}
        older = [entry for entry in known if entry.version not in seen]
        self._registry.put(candidate.name, [*newer, loading, *older])

    def _swap(self, name: str, entries: Sequence[Entry]) -> None:
        """Serve these from now on, and let go the models that are no longer among them."""
        before = self._registry.known(name)
        self._registry.put(name, entries)
        self._tell(name, before, entries)
        staying = {entry.model for entry in entries if entry.model}
        for entry in before:
            if entry.model is not None and entry.model not in staying:
                facts = {"model": name, "version": entry.version, "replaced": bool(staying)}
                _log.info("model let go", extra=facts)
                entry.model.retire()

    def _tell(self, name: str, before: Sequence[Entry], after: Sequence[Entry]) -> None:
        """Bring the gauges in line: each version that was opened serves or does not."""
        device = self._registry.device.actual
        told = {entry.version: entry for entry in after if not entry.superseded}
        for entry in told.values():
            ready = entry.model is not None
            self._metrics.model_state(name, entry.version, device, ready=ready)
            self._told.add((name, entry.version))
        for entry in before:
            if entry.version not in told and (name, entry.version) in self._told:
                self._told.discard((name, entry.version))
                self._metrics.model_gone(name, entry.version, device)

    def _scanned(self) -> dict[str, list[Candidate]]:
        """What lies in the folder; what cannot be read there is told once."""
        found, problems = scan(self._settings.models)
        for problem in problems - self._problems:
            _log.error("left out of the models folder", extra={"reason": problem})
        self._problems = problems
        return found

    def _opened(self, candidate: Candidate) -> Entry:
        name, version = candidate.name, candidate.version
        facts = {"model": name, "version": version}
        device = self._registry.device.actual
        servable = True
        try:
            model = load(candidate, device, self._settings.threads, self._limits, self._metrics)
        except (BundleError, LoadFailed) as error:
            reason = str(error)
            servable = not isinstance(error, GraphRefused)
        except Exception as error:  # noqa: BLE001 - whatever one model does, the others serve
            _log.exception("model broke while loading", extra=facts)
            reason = f"{type(error).__name__} while loading: {error}"
        else:
            _log.info("model ready", extra=facts | {"device": device, "execution": model.execution})
            return Entry(name, version, State.READY, model=model, fingerprint=candidate.fingerprint)
        _log.error("model refused", extra=facts | {"reason": reason})
        return Entry(
            name,
            version,
            State.UNAVAILABLE,
            reason,
            servable=servable,
            fingerprint=candidate.fingerprint,
        )

    def _require_control(self) -> None:
        if self._settings.model_control == "none":
            raise NotAllowed(
                "Models are not loaded and unloaded by calls here; the operator switches that on "
                "with ONWARD_MODEL_CONTROL=explicit."
            )


def _superseded(candidate: Candidate, by: str) -> Entry:
    reason = f"version {by} serves in its place"
    return Entry(candidate.name, candidate.version, State.UNAVAILABLE, reason, superseded=True)


def _kept(before: Entry | None, opened: Entry) -> Entry:
    """The new entry; where it was refused in place of a serving one, that one with the reason."""
    if before is None or before.model is None or opened.model is not None:
        return opened
    return Entry(
        before.name,
        before.version,
        State.READY,
        f"its files have changed and are refused; what was loaded before serves: {opened.reason}",
        before.model,
        fingerprint=opened.fingerprint,
    )
