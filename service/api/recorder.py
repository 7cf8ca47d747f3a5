"""Counts and log lines of responses, for the fast path and for ASGI."""

import logging
from typing import Literal

from service.engine.registry import Readiness
from service.observability.logs import LineBudget
from service.observability.metrics import Metrics

_FIRST_ERROR = 400
_NO_STATUS = 1000  # above any status

_log = logging.getLogger(__name__)


class RequestRecorder:
    """Counts and logs the responses of one process.

    Args:
        metrics: count them.
        readiness: of the service, which may be stopping.
        log_requests: which requests get a log line.
    """

    def __init__(
        self,
        metrics: Metrics,
        readiness: Readiness,
        log_requests: Literal["all", "errors", "none"],
    ) -> None:
        self._metrics = metrics
        self.readiness = readiness
        self.log_from = {"all": 0, "errors": _FIRST_ERROR, "none": _NO_STATUS}[log_requests]
        """The lowest status that gets a log line."""
        # The log handler limits lines too, but creating their records would take a third of the CPU
        # time of a flood of rejected connections. With "all", lines are not limited.
        self._budget = None if log_requests == "all" else LineBudget()

    def count(self, status: int) -> None:
        """Count a response; the status is zero if none was sent."""
        self._metrics.count_response(status)

    def logs(self, status: int) -> bool:
        """Return whether a response gets a log line; zero, no response, is an error."""
        return status >= self.log_from or (status == 0 and self.log_from < _NO_STATUS)

    def log(
        self, method: str, path: str, status: int, seconds: float, reason: str | None = None
    ) -> None:
        """Write the log line of a request.

        Args:
            method: of the request; empty if the input was not a request.
            path: of the request; empty if the input was not a request.
            status: of the response.
            seconds: duration of the request.
            reason: why a request was rejected before it was complete.
        """
        suppressed = 0 if self._budget is None else self._budget.take()
        if suppressed is None:
            return
        fields: dict[str, object] = {"method": method, "path": path, "status": status}
        if suppressed:
            fields["lines_suppressed"] = suppressed
        if reason is not None:
            fields["reason"] = reason
        _log.info("request", extra=fields | {"milliseconds": round(seconds * 1e3, 3)})
