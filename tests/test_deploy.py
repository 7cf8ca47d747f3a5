"""Dockerfile, compose file, alerts and dashboard match the service."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # it ships no type information

from service.observability.metrics import Metrics
from service.settings import Settings
from tests.scraped import scraped

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"
DASHBOARD = GRAFANA / "dashboards/onward.json"
ALERTS = PROMETHEUS / "alerts.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


def _metrics() -> dict[str, str]:
    """The kind of each of the service's metrics, by its name in the exposition."""
    text = scraped(Metrics()).decode()
    return dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))


def _named(text: str) -> set[str]:
    return set(re.findall(r"\bonward_\w+", text))


def _dashboard_queries() -> str:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return "\n".join(target["expr"] for panel in panels for target in panel["targets"])


def _alert_queries() -> str:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return "\n".join(rule["expr"] for group in groups for rule in group["rules"])


def _image_environment() -> dict[str, str]:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    return {
        name: value.strip('"')
        for name, value in re.findall(r"^(?:ENV| {3}) ([A-Z_]+)=(\S+)", final, re.MULTILINE)
    }


def _health_check() -> list[str]:
    found = re.search(r"^HEALTHCHECK .*?CMD (\[.*?\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found is not None
    command: list[str] = json.loads(found[1])
    return command


@contextmanager
def _scrape_server(status: int) -> Iterator[int]:
    """A server that responds to every GET with ``status``; yields its port."""

    class ScrapeHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), ScrapeHandler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("queries", [_dashboard_queries(), _alert_queries()])
def test_queries_name_only_metrics_of_the_service(queries: str) -> None:
    """Every metric that the dashboard and the alerts ask for is one that the service exposes."""
    exposed = {name + end for name, kind in _metrics().items() for end in _SUFFIXES[kind]}

    assert _named(queries) <= exposed


def test_the_dashboard_shows_every_metric() -> None:
    """No metric of the service is missing from the dashboard."""
    shown = _named(_dashboard_queries())

    unseen = [
        name
        for name, kind in _metrics().items()
        if not shown & {name + end for end in _SUFFIXES[kind]}
    ]

    assert unseen == []


def test_the_image_sets_only_settings_that_exist() -> None:
    """The image's ONWARD_ variables are settings, with values that the settings accept."""
    environment = _image_environment()

    given = {
        name.removeprefix("ONWARD_").lower(): value
        for name, value in environment.items()
        if name.startswith("ONWARD_")
    }

    assert Settings.model_validate(given).host == "0.0.0.0"
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("name", ["docker-compose.yml", "Dockerfile", "docs/operations.md"])
def test_every_onward_variable_is_a_setting(name: str) -> None:
    """No file for operators names an ONWARD_ variable that the service does not read."""
    variables = set(re.findall(r"\bONWARD_[A-Z_]+\b", (ROOT / name).read_text()))

    assert variables <= {f"ONWARD_{field.upper()}" for field in Settings.model_fields}


def test_the_image_runs_as_a_numbered_user() -> None:
    """The last USER of the Dockerfile is a number above 0, for user and group."""
    users = re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


@pytest.mark.parametrize("service", SERVICES)
def test_compose_hardens_every_service(service: str) -> None:
    """Each service has a read-only root, no capability, and is published to this machine alone."""
    options = SERVICES[service]

    assert options["read_only"] is True
    assert options["cap_drop"] == ["ALL"]
    assert options["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in options["ports"])
    assert "test" in options["healthcheck"]


@pytest.mark.parametrize("service", SERVICES)
def test_compose_mounts_files_that_exist_and_cannot_be_changed(service: str) -> None:
    """Each mount from this repository exists and is read-only."""
    mounts = [mount.split(":") for mount in SERVICES[service]["volumes"]]

    own = [mount for mount in mounts if mount[0].startswith("./")]

    assert own
    assert all((ROOT / source).is_dir() and mode == "ro" for source, _, mode in own)


def test_compose_pins_the_images_that_it_does_not_build() -> None:
    """An image from elsewhere has a full version as its tag."""
    images = [options["image"] for options in SERVICES.values() if "build" not in options]

    assert images
    assert all(re.search(r":v?\d+\.\d+\.\d+$", image) for image in images)


def test_compose_passes_the_settings_that_its_head_names() -> None:
    """Without a value in the shell, each has the default of the service."""
    environment: dict[str, str] = SERVICES["onward"]["environment"]
    passed = {name: str(value) for name, value in environment.items() if str(value)[:1] == "$"}
    head = (ROOT / "docker-compose.yml").read_text().split("x-hardened")[0]

    for name, value in passed.items():
        default = Settings.model_fields[name.removeprefix("ONWARD_").lower()].default
        assert value == f"${{{name}:-{default}}}"
    assert set(re.findall(r"ONWARD_[A-Z_]+", head)) == passed.keys() | {"ONWARD_PORT"}
    assert passed.keys() >= {"ONWARD_ROOT_PATH", "ONWARD_MAX_BODY_BYTES"}


def test_compose_requires_the_gpu_only_in_its_profile() -> None:
    """By default the service is built and started without CUDA; the profile has both."""
    default, gpu = SERVICES["onward"], SERVICES["onward-gpu"]

    assert "profiles" not in default
    assert default["environment"]["ONWARD_DEVICE"] == "cpu"
    assert gpu["profiles"] == ["gpu"]
    assert gpu["build"]["args"] == {"EXTRAS": "cuda"}
    assert gpu["environment"]["ONWARD_DEVICE"] == "cuda"


def test_compose_waits_longer_than_the_deadline() -> None:
    """Stopping leaves time for the slowest response that the settings allow."""
    grace = SERVICES["onward"]["stop_grace_period"]

    assert int(grace.removesuffix("s")) > Settings.model_fields["deadline_seconds"].default + 1


def test_compose_and_image_check_health_alike() -> None:
    """The compose file's health check is the image's."""
    assert SERVICES["onward"]["healthcheck"]["test"] == ["CMD", *_health_check()]


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_follows_readiness(status: int, code: int) -> None:
    """The health check succeeds if the service is ready, and uses no proxy."""
    command = [sys.executable, *_health_check()[1:]]

    with _scrape_server(status) as port:
        environment = os.environ | {"ONWARD_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run(command, env=environment, capture_output=True, check=False)

    assert done.returncode == code


def test_prometheus_and_grafana_find_their_files() -> None:
    """The names inside the configuration are those of the files and mounts next to it."""
    scraping = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    providers = yaml.safe_load((GRAFANA / "provisioning/dashboards/onward.yml").read_text())
    folder = providers["providers"][0]["options"]["path"]

    assert scraping["rule_files"] == [ALERTS.name]
    assert set(scraping["scrape_configs"][0]["dns_sd_configs"][0]["names"]) <= set(SERVICES)
    assert f"./deploy/grafana/dashboards:{folder}:ro" in SERVICES["grafana"]["volumes"]


@pytest.mark.parametrize("name", _metrics())
def test_the_operators_page_describes_each_metric(name: str) -> None:
    """The page's table has a row for the metric, with its kind."""
    assert f"| `{name}` | {_metrics()[name]} |" in OPERATIONS
