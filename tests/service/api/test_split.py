"""Split traffic: a canary gets a share of the requests without a version, in every protocol."""

import json
import re
from collections import Counter
from pathlib import Path

import httpx
import pytest

from service.bundle.policy import POLICY
from tests.conftest import StartApp
from tests.models import publish_price
from tests.processes import several

ROW = {"inputs": [{"name": "features", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}
PREDICT = "/models/price/predict"
UNNAMED = [
    (PREDICT, {"size": 1}),
    ("/v1/models/price:predict", {"instances": [[1]]}),
    ("/v2/models/price/infer", ROW),
]


def publish(models: Path, **policy: object) -> None:
    """Publish two versions whose slopes are their numbers; the second is a canary."""
    publish_price(models, slope=1.0)
    publish_price(models, slope=2.0)
    aliases = {"aliases": {"stable": 1, "canary": 2}}
    (models / "price" / POLICY).write_text(json.dumps(aliases | policy))


def version(client: httpx.Client, user: str | None = None, protocol: int = 0) -> str:
    path, body = UNNAMED[protocol]
    headers = {} if user is None else {"x-client-id": user}
    return client.post(path, json=body, headers=headers).headers["x-model-version"]


@pytest.mark.parametrize("protocol", range(3))
def test_a_share_goes_to_the_canary(models: Path, start: StartApp, protocol: int) -> None:
    """A quarter of 400 random requests goes there, within four standard deviations."""
    publish(models, split={"canary": 0.25})
    client = start(split_seed=1)

    seen = Counter(version(client, protocol=protocol) for _ in range(400))

    assert set(seen) == {"1", "2"}
    assert abs(seen["2"] - 100) < 4 * (400 * 0.25 * 0.75) ** 0.5


def test_the_same_seed_splits_alike(models: Path, start: StartApp) -> None:
    """The same seed splits requests identically, and a different seed differently."""
    publish(models, split={"canary": 0.5})
    runs = [start(split_seed=seed) for seed in (7, 7, 8)]

    first, again, other = ([version(client) for _ in range(60)] for client in runs)

    assert first == again != other


def test_a_client_stays_with_its_version(models: Path, start: StartApp) -> None:
    """That holds for all protocols and workers, and when the canary's share grows."""
    publish(models, split={"canary": 0.2})
    users = [f"user-{number}" for number in range(200)]
    client, other = start(), start()

    before = {user: version(client, user, protocol=0) for user in users}
    same = {user: version(other, user, protocol=2) for user in users[:20]}
    (models / "price" / POLICY).write_text(
        json.dumps({"aliases": {"stable": 1, "canary": 2}, "split": {"canary": 0.6}})
    )
    grown = start()
    after = {user: version(grown, user) for user in users}
    canarys, canarys_then = ({c for c in users if at[c] == "2"} for at in (before, after))

    assert same.items() <= before.items()
    assert 20 < len(canarys) < 60
    assert 80 < len(canarys_then) < 160
    assert canarys < canarys_then


def test_the_sticky_header_is_configurable(models: Path, start: StartApp) -> None:
    """Only the configured header makes the version sticky."""
    publish(models, split={"canary": 0.5})
    client = start(sticky_header="X-Session")

    def seen(header: str) -> set[str]:
        responses = [
            client.post(PREDICT, json={"size": 1}, headers={header: "me"}) for _ in range(30)
        ]
        return {response.headers["x-model-version"] for response in responses}

    assert (len(seen("x-session")), len(seen("x-client-id"))) == (1, 2)


def test_requests_with_a_version_or_an_alias_are_not_split(models: Path, start: StartApp) -> None:
    """Only requests without a version are split."""
    publish(models, split={"canary": 1.0})
    client = start()

    versions = [
        client.post(f"/models/price/versions/{name}/predict", json={"size": 1}).json()["value"]
        for name in ("1", "stable", "2", "canary")
    ]

    assert versions == [1.0, 1.0, 2.0, 2.0]
    assert version(client) == "2"


@pytest.mark.parametrize(
    "policy",
    [
        {"aliases": {"stable": 1}, "split": {"canary": 1.0}},
        {"aliases": {"stable": 1, "canary": 9}, "split": {"canary": 1.0}},
    ],
)
def test_the_share_of_a_missing_canary_goes_to_the_stable_version(
    models: Path, start: StartApp, policy: dict[str, object]
) -> None:
    """The alias was removed, or its version is missing."""
    publish(models, **policy)

    client = start()

    assert {version(client) for _ in range(10)} == {"1"}


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        ({"stable": 0.1}, "'stable' serves what the other aliases leave"),
        ({"canary": 0.6, "next": 0.6}, "the shares add up to 1.2, more than 1"),
        ({"canary": 0}, "greater than 0"),
        ({"canary": 10}, "less than or equal to 1"),
        ({"2": 0.5}, "match pattern"),
    ],
)
def test_an_invalid_split_is_reported(
    models: Path, start: StartApp, split: dict[str, float], reason: str
) -> None:
    """The model's page has the error of the file."""
    publish(models, split=split)

    assert reason in start().get("/models/price").json()["reason"]


def test_the_split_is_shown_and_counted_by_version(models: Path, start: StartApp) -> None:
    """The model's page has the share, and /metrics the requests by version."""
    publish(models, split={"canary": 0.3})
    client = start()

    seen = Counter(version(client) for _ in range(50))
    aliases = client.get("/models/price").json()["aliases"]
    counted = re.findall(
        r'onward_requests_total{.*version="(\d)"} (\S+)', client.get("/metrics").text
    )

    assert aliases == {"canary": {"version": "2", "share": 0.3}, "stable": {"version": "1"}}
    assert {number: float(count) for number, count in counted} == seen


def test_all_workers_split_clients_alike(models: Path) -> None:
    """Over two processes, no client changes its version."""
    publish(models, split={"canary": 0.5})

    with several(models, 2) as service:
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=service.address, limits=limits) as client:
            seen = {
                (user, version(client, user))
                for user in (f"user-{number}" for number in range(10))
                for _ in range(6)
            }

    assert len(seen) == 10
    assert {version for _, version in seen} == {"1", "2"}
