"""The other views: report, description, live metrics, and the page behind a path prefix."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from playwright.sync_api import expect

from tests.browser import OpenPage
from tests.conftest import ShippedClient
from tests.page.views import card, expect_response, open_model, predict

PREFIX = "/some/prefix"
HOP_BY_HOP = {"connection", "date", "server", "content-length", "transfer-encoding"}


@contextmanager
def prefixed(target: str) -> Iterator[str]:
    """A proxy that removes a path prefix, as nginx with ``proxy_pass`` and a path does."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            sent = {k: v for k, v in self.headers.items() if k.lower() != "host"}
            path = self.path.removeprefix(PREFIX)
            found = httpx.request(
                self.command, target + path, content=body, headers=sent, timeout=60
            )
            self.send_response(found.status_code)
            for name, value in found.headers.items():
                if name not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("content-length", str(len(found.content)))
            self.end_headers()
            self.wfile.write(found.content)

        do_POST = do_GET  # noqa: N815 - as above

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{PREFIX}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_page_works_behind_a_path_prefix(
    open_page: OpenPage, shipped_client: ShippedClient
) -> None:
    """All its addresses are relative, and the request to copy has the prefix."""
    with prefixed(str(shipped_client.base_url).rstrip("/")) as address:
        page = open_page(address)
        page.get_by_role("link", name="University admission", exact=True).click()
        expect_response(page, predict(shipped_client, "admission", {"exam_1": 45, "exam_2": 85}))
        expect(card(page, "The request").locator("code").first).to_contain_text(
            f"curl '{address}models/admission/predict'"
        )
        page.get_by_role("tab", name="Report").click()
        expect(page.frame_locator("iframe").get_by_role("heading", level=1)).to_be_visible()


def test_the_report_is_framed_without_scripts(
    open_page: OpenPage, shipped_client: ShippedClient
) -> None:
    """It is the report of training, which can also be opened alone."""
    page = open_model(open_page, shipped_client, "california", "report")
    frame = page.frame_locator("iframe")

    expect(frame.get_by_role("heading", level=1)).to_have_text("House values in California")
    expect(page.locator("iframe")).to_have_attribute("sandbox", "")
    link = page.get_by_role("link", name="Open the report in a new tab")
    expect(link).to_have_attribute("href", "models/california/report")


def test_metrics_are_compared_with_the_baseline(
    open_page: OpenPage, shipped_client: ShippedClient
) -> None:
    """The table has the numbers of the service."""
    page = open_model(open_page, shipped_client, "california", "about")
    measured = shipped_client.get("/models/california/metrics").json()
    values = measured["metrics"]["rmse"], measured["baseline"]["metrics"]["rmse"]

    row = card(page, "Metrics").get_by_role("row").filter(has_text="RMSE")
    expect(row.get_by_role("cell").nth(0)).to_have_text(f"{values[0]:,.0f}\u00a0US dollars")
    expect(row.get_by_role("cell").nth(1)).to_have_text(f"{values[1]:,.0f}\u00a0US dollars")
    expect(card(page, "Metrics")).to_contain_text("the 4,128 rows of the test set")


def test_the_live_panel_counts_predictions(
    open_page: OpenPage, shipped_client: ShippedClient
) -> None:
    """Its table has the models that were used, with their requests."""
    for _ in range(3):
        predict(shipped_client, "line", {"x": 1})
    page = open_page(f"{shipped_client.base_url}#/live")
    samples = shipped_client.get("/metrics").text.splitlines()
    name = 'onward_requests_total{model="line",'
    count = sum(float(line.rpartition(" ")[2]) for line in samples if line.startswith(name))

    row = (
        card(page, "Models")
        .get_by_role("row")
        .filter(has=page.get_by_role("link", name="line", exact=True))
    )
    expect(row.get_by_role("cell").last).to_have_text(f"{count:,.0f}")
    expect(card(page, "Time of a prediction").get_by_role("listitem")).to_have_count(4)


def test_an_unknown_model_is_reported(open_page: OpenPage, shipped_client: ShippedClient) -> None:
    """The sentence of the service, and a way to all models."""
    page = open_model(open_page, shipped_client, "admision")

    expect(page.get_by_text("did you mean 'admission'?")).to_be_visible()
    page.get_by_role("link", name="All models").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Models")
