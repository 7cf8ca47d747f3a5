"""The sum of the metrics of all workers, including those that ended.

Each worker writes its totals to a file of its slot several times a second. A new worker continues
from the file of its slot, so that counters never decrease.
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from service.observability.exposition import render_exposition
from service.observability.metrics import Metrics
from service.workers.ipc import Channel, Reply, Slot

_WRITE_SECONDS = 0.25
_METHOD = "metrics"
_SUFFIX = ".totals"
# A worker that hangs must not block the metrics of the others.
_REPLY_SECONDS = 0.5

_log = logging.getLogger(__name__)


class Totals:
    """The totals of one worker, and through the channel those of the other workers.

    Without a slot, this worker is the only one.
    """

    def __init__(self, metrics: Metrics, channel: Channel, slot: Slot | None) -> None:
        self._metrics = metrics
        self._channel = channel
        self._path = None if slot is None else slot.folder / f"{slot.number}{_SUFFIX}"
        self._build_lock = asyncio.Lock()
        self._next_build: asyncio.Task[bytes] | None = None
        self._write_lock = asyncio.Lock()
        self._written = b""
        self._disk_is_full = False
        channel.handle(_METHOD, self._reply)

    def restore(self) -> None:
        """Continue from the slot's previous counts; to be called before the first request."""
        if self._path is None:
            return
        try:
            self._metrics.restore(self._path.read_bytes())
        except FileNotFoundError:
            pass  # the first worker in this slot
        except (OSError, ValueError):
            _log.exception("the counts of the previous worker are lost")

    async def write_often(self) -> None:
        """Write this worker's totals periodically, until cancelled."""
        while self._path is not None:
            await asyncio.sleep(_WRITE_SECONDS)
            await self.write()

    async def write(self) -> bytes:
        """Write this worker's totals and return them. A full disk is logged and ignored.

        Totals are written before they are exported, or counters would decrease after a crash.
        """
        async with self._write_lock:
            totals = self._metrics.snapshot()
            if self._path is not None and totals != self._written:
                await asyncio.to_thread(self._replace, self._path, totals)
            return totals

    async def render(self) -> bytes:
        """Return the metrics of all workers in Prometheus text format.

        They include everything that was counted before the call. They are rendered in a thread,
        since that takes a second for hundreds of models. Calls during a build share the next one.
        """
        if self._next_build is None:
            self._next_build = asyncio.create_task(self._build())
        return await asyncio.shield(self._next_build)

    async def _build(self) -> bytes:
        async with self._build_lock:
            self._next_build = None  # later calls may have counted more
            replies = await self._channel.request(_METHOD, seconds=_REPLY_SECONDS)
            own = await self.write()
            expired = self._metrics.expired_versions
            return await asyncio.to_thread(self._render_sum, own, replies, expired)

    def _render_sum(
        self, own: bytes, replies: Sequence[Reply], expired: Collection[tuple[str, str]]
    ) -> bytes:
        """Render the sum; workers that did not reply or ended count with their files."""
        received = {reply.slot: reply.content.encode() for reply in replies if reply.error is None}
        hung = {reply.slot for reply in replies} - received.keys()
        running = [own, *received.values()]
        ended: list[bytes] = []
        if self._path is not None:
            for path in self._path.parent.glob(f"*{_SUFFIX}"):
                slot = int(path.stem)
                if path != self._path and slot not in received:
                    (running if slot in hung else ended).append(path.read_bytes())
        return render_exposition(running, ended, expired)

    async def _reply(self, _: object) -> str:
        return (await self.write()).decode()

    def _replace(self, path: Path, totals: bytes) -> None:
        new = path.with_suffix(".new")
        try:
            new.write_bytes(totals)
            new.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)  # an incomplete file would only take space
            if not self._disk_is_full:
                facts = {"folder": str(path.parent), "reason": error.strerror}
                _log.error("totals cannot be written", extra=facts)
            self._disk_is_full = True
        else:
            self._written = totals
            self._disk_is_full = False
