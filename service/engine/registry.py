"""Which models serve, which cannot and why: the one truth that every endpoint reads."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from service.bundle.errors import BundleError
from service.engine.loading import load
from service.engine.model import Limits, ServedModel
from service.engine.repository import Candidate, scan
from service.engine.session import DeviceChoice, choose_device
from service.errors import (
    GraphRefused,
    LoadFailed,
    ModelNotFound,
    ModelNotReady,
    ModelUnservable,
    NotAllowed,
    VersionNotFound,
)
from service.metrics import Metrics
from service.settings import Settings

_log = logging.getLogger(__name__)


class State(StrEnum):
    """A version's state, in the words of the Open Inference Protocol's index."""

    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True)
class Entry:
    """One version as the registry knows it; ``model`` is there exactly when it is ready.

    Not ``servable`` is a bare model whose graph the runtime refuses, today as tomorrow.
    """

    name: str
    version: str
    state: State
    reason: str = ""
    model: ServedModel | None = None
    servable: bool = True


class Registry:
    """The models of one app.

    Of each model the newest version that proves itself serves; newer ones that failed are kept
    with their reason.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._entries: dict[str, list[Entry]] = {}
        self.device = DeviceChoice(settings.device, "cpu", "not asked yet")
        self._loaded = False
        self._control = asyncio.Lock()

    def load(self) -> None:
        """Find the device and load every model of the folder; blocks while it does.

        Raises:
            DeviceUnavailable: the device that was demanded cannot be used.
            NoModels: there is no models folder.
        """
        self.device = choose_device(self._settings.device)
        self._metrics.device(self.device.requested, self.device.actual)
        facts: dict[str, str] = {
            "requested": self.device.requested,
            "actual": self.device.actual,
        }
        if self.device.reason:
            facts["reason"] = self.device.reason
        _log.info("device chosen", extra=facts)
        for name, candidates in scan(self._settings.models).items():
            self._entries[name] = list(self._newest_that_serves(candidates))
        self._loaded = True

    @property
    def ready(self) -> bool:
        """Whether loading is over and at least one model serves."""
        return self._loaded and any(self.serving(name) for name in self._entries)

    @property
    def names(self) -> list[str]:
        """Every model there is, ready or not."""
        return list(self._entries)

    def versions(self, name: str) -> list[Entry]:
        """What is known of a model's versions, newest first.

        Raises:
            ModelNotFound: there is no such model.
        """
        if name not in self._entries:
            raise ModelNotFound(name, self.names)
        return self._entries[name]

    def serving(self, name: str) -> ServedModel | None:
        """The version that answers where none is named, or None."""
        return next((entry.model for entry in self.versions(name) if entry.model), None)

    def entry(self, name: str, version: str | None = None) -> Entry:
        """The entry of a version; without one, of the version that serves, else of the newest.

        Raises:
            ModelNotFound: there is no such model.
            VersionNotFound: the model has no such version.
        """
        entries = self.versions(name)
        if version is None:
            return next((entry for entry in entries if entry.model), entries[0])
        for entry in entries:
            if entry.version == version:
                return entry
        raise VersionNotFound(name, version, [entry.version for entry in reversed(entries)])

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """The model that answers.

        Raises:
            NotFound: there is no such model or version.
            ModelNotReady: there is, and it does not serve; says why.
            ModelUnservable: there is, and the runtime cannot serve it; says why.
        """
        entry = self.entry(name, version)
        if entry.model is not None:
            return entry.model
        if not entry.servable:
            raise ModelUnservable(name, entry.version, entry.reason)
        raise ModelNotReady(name, entry.version, entry.reason)

    async def load_model(self, name: str) -> None:
        """Open a model's newest version again, or for the first time; the old one serves meanwhile.

        Whoever still computes with the old one keeps it until the answer is out.

        Raises:
            NotAllowed: the operator has not switched this on.
            ModelNotFound: the folder has no such model.
            ModelUnservable: no version proved itself; what served before still serves.
        """
        self._require_control()
        async with self._control:
            candidates = scan(self._settings.models).get(name)
            if candidates is None:
                raise ModelNotFound(name, self.names)
            entries = await asyncio.to_thread(lambda: list(self._newest_that_serves(candidates)))
            serves = any(entry.model for entry in entries)
            if serves or not any(entry.model for entry in self._entries.get(name, ())):
                self._entries[name] = entries
            if not serves:
                raise ModelUnservable(name, entries[0].version, entries[0].reason)

    async def unload_model(self, name: str) -> None:
        """Take a model out of service until it is loaded again.

        Raises:
            NotAllowed: the operator has not switched this on.
            ModelNotFound: there is no such model.
        """
        self._require_control()
        async with self._control:
            gone = [
                Entry(name, entry.version, State.UNAVAILABLE, entry.reason or "unloaded")
                for entry in self.versions(name)
            ]
            for entry in self.versions(name):
                if entry.model is not None:
                    device = entry.model.device
                    self._metrics.model_state(name, entry.version, device, ready=False)
            self._entries[name] = gone

    async def close(self) -> None:
        """Let every model finish what waits."""
        for entries in self._entries.values():
            for entry in entries:
                if entry.model is not None:
                    await entry.model.close()

    def _require_control(self) -> None:
        if self._settings.model_control == "none":
            raise NotAllowed(
                "Models are not loaded and unloaded by calls here; the operator switches that on "
                "with ONWARD_MODEL_CONTROL=explicit."
            )

    def _newest_that_serves(self, candidates: list[Candidate]) -> Iterator[Entry]:
        for candidate in candidates:
            entry = self._opened(candidate)
            yield entry
            if entry.model is not None:
                return

    def _opened(self, candidate: Candidate) -> Entry:
        name, version = candidate.name, str(candidate.version)
        facts = {"model": name, "version": version}
        settings = self._settings
        limits = Limits(settings.max_batch_rows, settings.max_queued_rows)
        device = self.device.actual
        servable = True
        try:
            model = load(candidate, device, settings.threads, limits, self._metrics)
        except (BundleError, LoadFailed) as error:
            reason = str(error)
            servable = not isinstance(error, GraphRefused)
        except Exception as error:  # noqa: BLE001 - whatever one model does, the others serve
            _log.exception("model broke while loading", extra=facts)
            reason = f"{type(error).__name__} while loading: {error}"
        else:
            _log.info("model ready", extra=facts | {"device": device, "execution": model.execution})
            self._metrics.model_state(name, version, device, ready=True)
            return Entry(name, version, State.READY, model=model)
        _log.error("model refused", extra=facts | {"reason": reason})
        self._metrics.model_state(name, version, device, ready=False)
        return Entry(name, version, State.UNAVAILABLE, reason, servable=servable)
