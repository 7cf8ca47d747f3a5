"""Predictions of a running service in Python: `Client`, and `AsyncClient` for asyncio.

    from service.client import Client

    with Client("http://localhost:8000") as client:
        client.predict("ice_cream", {"temperature": 24.5}).value        # 14.56
        client.predict("admission", frame)                              # a DataFrame
        client.predict("cats_dogs", "photo.jpg").label                  # "cat"
        client.explain("house_price", {"size": 1650, "bedrooms": 3}).contributions
        client.score("churn", "customers.csv", "scored.csv")            # a file of any length

It needs httpx and nothing else; DataFrames of pandas and polars, images of Pillow and arrays of
numpy are accepted if you have these libraries. `docs/client.md` has more examples.
"""

from service.sdk.async_client import AsyncClient
from service.sdk.errors import (
    InvalidData,
    InvalidRequest,
    ModelNotFound,
    ModelNotReady,
    NotAllowed,
    OnwardClientError,
    Overloaded,
    Problem,
    RequestTimeout,
    RequestTooLarge,
    ServiceError,
    ServiceUnreachable,
)
from service.sdk.results import (
    Explanation,
    Feature,
    Interval,
    Metric,
    Model,
    Output,
    Prediction,
    ScoredTable,
)
from service.sdk.sync_client import Client

__all__ = [
    "AsyncClient",
    "Client",
    "Explanation",
    "Feature",
    "Interval",
    "InvalidData",
    "InvalidRequest",
    "Metric",
    "Model",
    "ModelNotFound",
    "ModelNotReady",
    "NotAllowed",
    "OnwardClientError",
    "Output",
    "Overloaded",
    "Prediction",
    "Problem",
    "RequestTimeout",
    "RequestTooLarge",
    "ScoredTable",
    "ServiceError",
    "ServiceUnreachable",
]
