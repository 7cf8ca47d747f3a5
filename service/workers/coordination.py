"""Loads, unloads and looks at the models folder that every worker of a service follows."""

import contextlib
import logging

from service.engine.reconciler import Reconciler
from service.errors import ModelUnservable, WorkerFailed
from service.workers.ipc import Channel

_LOAD = "load"
LOOK = "look"

_log = logging.getLogger(__name__)


class Control:
    """One worker's reconciler, and through the channel those of all the others.

    What is unloaded is kept where every worker finds it, so that one which starts later follows.

    Args:
        seconds: how long a call waits for each of the other workers.
    """

    def __init__(self, reconciler: Reconciler, channel: Channel, seconds: float) -> None:
        self._reconciler = reconciler
        self._channel = channel
        self._seconds = seconds
        channel.on(_LOAD, reconciler.reload_model)
        channel.on(LOOK, self._look)

    async def start(self) -> None:
        """Load the models, join the other workers, and see that all look at the same folder.

        Raises:
            CannotStart: the machine does not allow what the settings ask.
        """
        await self._reconciler.start()
        await self._channel.open()
        # A call may have come between the first look and the socket. And what this worker has
        # found, the others must not go without, though they may look rarely, or never.
        await self._reconciler.refresh()
        await self._channel.ask(LOOK)

    async def close(self) -> None:
        """Leave the other workers, and let every model finish what waits."""
        await self._channel.close()
        await self._reconciler.close()

    async def rescan(self) -> None:
        """Have every worker look at the folder; one that cannot says so in the log."""
        with contextlib.suppress(Exception):
            await self._look(None)
        await self._channel.ask(LOOK)
        _log.info("models folder looked at")

    async def load_model(self, name: str) -> None:
        """Load a model on every worker, or load it again.

        Raises:
            NotAllowed: the operator has not switched this on.
            ModelNotFound: the folder has no such model.
            ModelUnservable: its newest version does not prove itself; what served before serves.
            WorkerFailed: this worker serves it, and another does not.
        """
        try:
            await self._reconciler.load_model(name)
        except ModelUnservable:
            await self._channel.ask(_LOAD, name, seconds=self._seconds)
            raise
        await self._require_all(name, _LOAD, name)

    async def unload_model(self, name: str) -> None:
        """Take a model out of service on every worker until it is loaded again.

        Raises:
            NotAllowed: the operator has not switched this on.
            ModelNotFound: there is no such model.
            WorkerFailed: this worker has let it go, and another has not.
        """
        await self._reconciler.unload_model(name)
        await self._require_all(name, LOOK)

    async def _require_all(self, name: str, question: str, argument: str | None = None) -> None:
        answers = await self._channel.ask(question, argument, seconds=self._seconds)
        failed = {answer.worker: answer.error for answer in answers if answer.error is not None}
        if failed:
            raise WorkerFailed(name, failed, len(answers) + 1)

    async def _look(self, _: object) -> None:
        try:
            await self._reconciler.refresh()
        except Exception as error:
            # Whoever asked may not wait for the answer; what serves serves on.
            _log.error("models folder cannot be read", extra={"reason": str(error)})
            raise
