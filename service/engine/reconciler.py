"""Brings the registry in line with the models folder: at the start, on a call, and while watching.

Each model goes its own way, told in `service.engine.lifecycle`, so that one that takes long, fails
or breaks holds up no other.
"""

import asyncio
import logging
from collections.abc import Coroutine, MutableSet

from service.engine.lifecycle import Lifecycle, Publisher
from service.engine.loader import Opener
from service.engine.model import About, ServedModel
from service.engine.registry import Registry
from service.engine.repository import Home, Repository, Scan
from service.engine.session import choose_device
from service.errors import ModelNotFound, ModelUnservable, NotAllowed
from service.observability.metrics import Metrics
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
        self._repository = Repository(settings.models)
        self._opener = Opener(settings, metrics)
        self._lifecycles: dict[str, Lifecycle] = {}
        self._followed: dict[str, tuple[Home, bool]] = {}
        self._following: set[asyncio.Task[None]] = set()
        self._one_look = asyncio.Lock()
        self._unloaded: MutableSet[str] = set() if unloaded is None else unloaded
        self._problems: frozenset[str] = frozenset()

    async def start(self) -> None:
        """Find the device and load every model of the folder.

        Raises:
            DeviceUnavailable: the device that was demanded cannot be used.
            NoModels: there is no models folder.
        """
        # What waits on one event loop cannot wait on another, if the app is started again.
        self._opener = Opener(self._settings, self._metrics)
        self._one_look = asyncio.Lock()
        device = await asyncio.to_thread(choose_device, self._settings.device)
        self._registry.device = device
        self._opener.device = device.actual
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
                await self._look()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look may succeed
                reason = str(error)
            if reason and reason != told:
                _log.error("models folder cannot be read", extra={"reason": reason})
            told = reason

    async def refresh(self) -> None:
        """Load what is new or changed, let go what is no longer there, and wait for all of it.

        Raises:
            NoModels: there is no models folder.
        """
        await self._look()
        await asyncio.gather(*self._following)

    async def load_model(self, name: str) -> None:
        """Look at one model again, or for the first time.

        Raises:
            NotAllowed: the operator has not switched this on.
            ModelNotFound: the folder has no such model.
            ModelUnservable: a version of it that is to serve does not prove itself; what served
                before serves.
        """
        self._require_control()
        self._unloaded.discard(name)
        await self.reload_model(name)

    async def reload_model(self, name: str) -> None:
        """Open a model again, unless a call has taken it out of service.

        Raises:
            ModelNotFound: the folder has no such model.
            ModelUnservable: a version of it that is to serve does not prove itself; what served
                before serves.
        """
        home, serves = await self._looked_at(name)
        if not serves:
            await self._lifecycle(name).unload(home)
            return
        for entry in await self._lifecycle(name).follow(home, again=True):
            failed = entry.reason if entry.model else not entry.serves
            if failed and not entry.superseded and not entry.absent:
                raise ModelUnservable(name, entry.version, entry.reason)

    async def unload_model(self, name: str) -> None:
        """Take a model out of service until it is loaded again.

        Raises:
            NotAllowed: the operator has not switched this on.
            ModelNotFound: there is no such model.
        """
        self._require_control()
        self._registry.versions(name)
        self._unloaded.add(name)
        home, _ = await self._looked_at(name)
        await self._lifecycle(name).unload(home)

    async def wake(self, name: str, asked: str | None) -> ServedModel:
        """The model that answers, loaded first where it is asleep.

        Raises:
            NotFound: there is no such model, version or alias.
            ModelNotReady: there is, and it does not serve; says why.
            ModelUnservable: there is, and the runtime cannot serve it; says why.
        """
        while True:
            entry = self._registry.require(name, asked)
            if entry.model is not None:
                return entry.model
            await self._lifecycle(name).wake(entry.version)

    async def about(self, name: str, asked: str | None) -> About:
        """What is known of the version that answers; a bare model is opened to tell it.

        Raises:
            NotFound: there is no such model, version or alias.
            ModelNotReady: there is, and it does not serve; says why.
            ModelUnservable: there is, and the runtime cannot serve it; says why.
        """
        about = self._registry.require(name, asked).about
        return (await self.wake(name, asked)).about if about is None else about

    async def close(self) -> None:
        """Let every model finish what waits, and forget them."""
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        await asyncio.gather(*(lifecycle.close() for lifecycle in self._lifecycles.values()))
        self._lifecycles.clear()
        self._followed.clear()
        await self._opener.close()

    async def _look(self) -> None:
        """Set out to bring in line every model whose folder is not as it was."""
        async with self._one_look:
            homes = (await self._scan()).homes
            for name in set(self._unloaded).difference(homes):
                self._unloaded.discard(name)
            for name in self._followed.keys() - homes.keys():
                del self._followed[name]
                self._set_out(self._lifecycle(name).leave())
            for name, home in homes.items():
                serves = name not in self._unloaded
                if self._followed.get(name) != (home, serves):
                    self._followed[name] = (home, serves)
                    way = self._lifecycle(name)
                    self._set_out(way.follow(home) if serves else way.unload(home))

    async def _looked_at(self, name: str) -> tuple[Home, bool]:
        """One model's folder as it is now, and whether it is to serve."""
        async with self._one_look:
            homes = (await self._scan()).homes
            if name not in homes:
                raise ModelNotFound(name, list(homes))
            self._followed[name] = (homes[name], name not in self._unloaded)
            return self._followed[name]

    def _set_out(self, way: Coroutine[None, None, object]) -> None:
        task = asyncio.create_task(_guarded(way))
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def _scan(self) -> Scan:
        """What lies in the folder; what cannot be used there is told once."""
        scan = await asyncio.to_thread(self._repository.scan)
        for problem in sorted(scan.problems - self._problems):
            _log.error("left out of the models folder", extra={"reason": problem})
        self._problems = scan.problems
        return scan

    def _lifecycle(self, name: str) -> Lifecycle:
        if name not in self._lifecycles:
            publisher = Publisher(name, self._registry, self._metrics, self._opener.memory)
            self._lifecycles[name] = Lifecycle(
                name, self._opener, publisher, self._settings.version_policy
            )
        return self._lifecycles[name]

    def _require_control(self) -> None:
        if self._settings.model_control == "none":
            raise NotAllowed(
                "Models are not loaded and unloaded by calls here; the operator switches that on "
                "with ONWARD_MODEL_CONTROL=explicit."
            )


async def _guarded(way: Coroutine[None, None, object]) -> None:
    """One model's way; a fault of ours on it is told, and stops no other's."""
    try:
        await way
    except Exception:  # noqa: BLE001 - whatever happens to one model, the others go on
        _log.exception("model could not be brought in line")
