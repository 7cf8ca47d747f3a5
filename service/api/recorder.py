"""Counts responses and writes their log lines, whichever way their requests came in."""

import logging
from typing import Literal

from service.engine.registry import Readiness
from service.observability.logs import LineBudget
from service.observability.metrics import Metrics

_FIRST_ERROR = 400
_NO_STATUS = 1000  # above all of them

_log = logging.getLogger(__name__)


class RequestRecorder:
    """Counts and logs the responses of one process.

    Args:
        metrics: count them.
        readiness: whether the service is stopping.
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
        # The handler limits lines too, but building a record first would cost a flood of rejected
        # connections a third of its processor time. Where all requests are logged, none is limited.
        self._budget = None if log_requests == "all" else LineBudget()

    def count(self, status: int) -> None:
        """Count a response; zero is none at all."""
        self._metrics.count_response(status)

    def logs(self, status: int) -> bool:
        """Whether such a response gets a log line; zero, no response at all, is an error."""
        return status >= self.log_from or (status == 0 and self.log_from < _NO_STATUS)

    def log(
        self, method: str, path: str, status: int, seconds: float, reason: str | None = None
    ) -> None:
        """Write the log line of a request.

        Args:
            method: empty where the input was no request.
            path: as above.
            status: of the response.
            seconds: that it took.
            reason: of a request that was rejected before it was complete.
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
