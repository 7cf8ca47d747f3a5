"""What Prometheus reads of one process."""

from service.observability.exposition import exposition
from service.observability.metrics import Metrics


def scraped(metrics: Metrics) -> bytes:
    """The text of a scrape."""
    return exposition([metrics.snapshot()], hidden=metrics.hidden)
