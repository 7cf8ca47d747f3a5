"""Reconciles the registry with the models folder: at the start, on request, and periodically.

Each model has its own `service.engine.lifecycle`, so that a model that loads slowly or fails delays
no other.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableSet
from functools import partial

from service.engine.lifecycle import Lifecycle, Publisher
from service.engine.loader import VersionLoader
from service.engine.model import ModelInfo, ServedModel
from service.engine.registry import Registry
from service.engine.repository import ModelFolder, Repository, Scan
from service.engine.session import choose_device
from service.errors import ModelNotFound, ModelUnservable, NotAllowed
from service.observability.metrics import Metrics
from service.settings import Settings

_log = logging.getLogger(__name__)


class Reconciler:
    """Keeps the registry in line with the models folder.

    All workers share ``unloaded``, the names of models that were unloaded on request.
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
        self._loader = VersionLoader(settings, metrics)
        self._lifecycles: dict[str, Lifecycle] = {}
        # The folder of each model at the latest sync, and whether the model should serve.
        self._synced: dict[str, tuple[ModelFolder, bool]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()
        self._unloaded: MutableSet[str] = set() if unloaded is None else unloaded
        self._problems: frozenset[str] = frozenset()

    async def start(self) -> None:
        """Choose the device and load every model of the folder.

        Raises:
            DeviceUnavailable: the requested device cannot be used.
            NoModels: there is no models folder.
        """
        # Created again, since locks belong to one event loop and the app may be restarted.
        self._loader = VersionLoader(self._settings, self._metrics)
        self._lock = asyncio.Lock()
        device = await asyncio.to_thread(choose_device, self._settings.device)
        self._registry.device = device
        self._loader.device = device.actual
        self._metrics.add_device(device.requested, device.actual)
        facts = {name: value for name, value in vars(device).items() if value is not None}
        _log.info("device chosen", extra=facts)
        await self.refresh()

    async def watch(self) -> None:
        """Scan the folder periodically; if it cannot be read, nothing changes."""
        logged = ""
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            reason = ""
            try:
                await self._sync_changed()
            except Exception as error:  # noqa: BLE001 - the next scan may succeed
                reason = str(error)
            if reason and reason != logged:
                _log.error("models folder cannot be read", extra={"reason": reason})
            logged = reason

    async def refresh(self) -> None:
        """Load new and changed versions, unload removed ones, and wait until that is done.

        Raise `NoModels` if there is no models folder.
        """
        await self._sync_changed()
        await asyncio.gather(*self._tasks)

    async def load_model(self, name: str) -> None:
        """Load one model, or reload it.

        Raises:
            NotAllowed: the operator has not enabled this.
            ModelNotFound, ModelUnservable: as for `reload_model`.
        """
        self._require_control()
        self._unloaded.discard(name)
        await self.reload_model(name)

    async def reload_model(self, name: str) -> None:
        """Reload a model, unless it was unloaded on request.

        Raises:
            ModelNotFound: the folder has no such model.
            ModelUnservable: a selected version fails its self-test or does not load; the previous
                version continues to serve.
        """
        folder, serves = await self._scan_one(name)
        if not serves:
            await self._get_lifecycle(name).unload(folder)
            return
        for entry in await self._get_lifecycle(name).sync(folder, reload=True):
            failed = entry.reason if entry.model else not entry.serves
            if failed and not entry.is_superseded and not entry.is_absent:
                raise ModelUnservable(name, entry.version, entry.reason)

    async def unload_model(self, name: str) -> None:
        """Unload a model until it is loaded on request.

        Raises:
            NotAllowed: the operator has not enabled this.
            ModelNotFound: there is no such model.
        """
        self._require_control()
        self._registry.versions(name)
        self._unloaded.add(name)
        folder, _ = await self._scan_one(name)
        await self._get_lifecycle(name).unload(folder)

    async def ensure_loaded(self, name: str, version: str | None) -> ServedModel:
        """Return the model that serves a version or an alias; load it first if it is lazy.

        Raises:
            NotFound: there is no such model, version or alias.
            ModelNotReady: it does not serve; with the reason.
            ModelUnservable: ONNX Runtime cannot serve it; with the reason.
        """
        while True:
            entry = self._registry.entry(name, version, serving=True)
            if entry.model is not None:
                return entry.model
            await self._get_lifecycle(name).ensure_loaded(entry.version)

    async def model_info(self, name: str, version: str | None) -> ModelInfo:
        """Return the metadata of the version that serves; load a lazy bare model for it.

        The errors are those of `ensure_loaded`.
        """
        info = self._registry.entry(name, version, serving=True).info
        return (await self.ensure_loaded(name, version)).info if info is None else info

    async def close(self) -> None:
        """Finish all requests, and remove all models."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(lifecycle.close() for lifecycle in self._lifecycles.values()))
        self._lifecycles.clear()
        self._synced.clear()
        await self._loader.close()

    async def _sync_changed(self) -> None:
        """Start to sync every model whose folder has changed."""
        async with self._lock:
            folders = (await self._scan()).folders
            for name in set(self._unloaded).difference(folders):
                self._unloaded.discard(name)
            for name in self._synced.keys() - folders.keys():
                del self._synced[name]
                self._start(self._get_lifecycle(name).remove)
            for name, folder in folders.items():
                serves = name not in self._unloaded
                if self._synced.get(name) != (folder, serves):
                    self._synced[name] = (folder, serves)
                    lifecycle = self._get_lifecycle(name)
                    change = lifecycle.sync if serves else lifecycle.unload
                    self._start(partial(change, folder))

    async def _scan_one(self, name: str) -> tuple[ModelFolder, bool]:
        """Return the current folder of one model, and whether the model should serve."""
        async with self._lock:
            folders = (await self._scan()).folders
            if name not in folders:
                raise ModelNotFound(name, list(folders))
            self._synced[name] = (folders[name], name not in self._unloaded)
            return self._synced[name]

    def _start(self, change: Callable[[], Awaitable[object]]) -> None:
        task = asyncio.create_task(_logged(change))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _scan(self) -> Scan:
        """Return the content of the folder; log each problem once."""
        scan = await asyncio.to_thread(self._repository.scan)
        for problem in sorted(scan.problems - self._problems):
            _log.error("entry of the models folder ignored", extra={"reason": problem})
        self._problems = scan.problems
        return scan

    def _get_lifecycle(self, name: str) -> Lifecycle:
        if name not in self._lifecycles:
            publisher = Publisher(name, self._registry, self._metrics, self._loader.cache)
            self._lifecycles[name] = Lifecycle(
                name, self._loader, publisher, self._settings.version_policy
            )
        return self._lifecycles[name]

    def _require_control(self) -> None:
        if self._settings.model_control == "none":
            raise NotAllowed(
                "Models cannot be loaded or unloaded on request here; the operator can enable this "
                "with ONWARD_MODEL_CONTROL=explicit."
            )


async def _logged(change: Callable[[], Awaitable[object]]) -> None:
    """Log an unexpected error of one model's change, so that it does not affect other models.

    ``change`` is called when the task runs: a coroutine created earlier would never be awaited if
    the task is cancelled before its first step.
    """
    try:
        await change()
    except Exception:  # noqa: BLE001 - an error of one model must not affect the others
        _log.exception("model could not be synced")
