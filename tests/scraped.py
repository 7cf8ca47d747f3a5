"""Read the metrics of one process as Prometheus does."""

from service.observability.exposition import render_exposition
from service.observability.metrics import Metrics


def scraped(metrics: Metrics) -> bytes:
    """Return the text of a scrape."""
    return render_exposition([metrics.snapshot()], expired=metrics.expired_versions)
