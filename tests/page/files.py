"""Files that users give to the page, and the responses of the service to the same files."""

from base64 import b64encode
from typing import Any

import httpx
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import JSHandle, Page


def post_file(client: httpx.Client, path: str, file: bytes, media_type: str) -> httpx.Response:
    """The response of the service to a file, without the page."""
    response = client.post(f"/models/{path}", content=file, headers={"content-type": media_type})
    assert response.status_code == httpx.codes.OK, response.text
    return response


def predict_image(client: httpx.Client, path: str, file: bytes) -> dict[str, Any]:
    """The prediction of an image file, without the page."""
    document: dict[str, Any] = post_file(client, path, file, "image/png").json()
    return document


def transfer(page: Page, files: dict[str, bytes], media_type: str) -> JSHandle:
    """The files as a browser hands them over when they are dropped or pasted."""
    return page.evaluate_handle(
        """([files, type]) => {
            const transfer = new DataTransfer();
            for (const [name, content] of files) {
                const bytes = Uint8Array.from(atob(content), (char) => char.charCodeAt(0));
                transfer.items.add(new File([bytes], name, { type }));
            }
            return transfer;
        }""",
        [[[name, b64encode(file).decode()] for name, file in files.items()], media_type],
    )


def drop(page: Page, files: dict[str, bytes], media_type: str) -> None:
    """Drop files on the area for files."""
    data = transfer(page, files, media_type)
    for event in ("dragenter", "dragover", "drop"):
        page.locator(".drop-zone").dispatch_event(event, {"dataTransfer": data})


def find_barriers(page: Page) -> list[str]:
    """The serious violations that axe-core finds in the shown tab, each with its element."""
    found = Axe().run(page, context="main > .tabbed > [role=tabpanel]:not([hidden])")
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in found.response["violations"]
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"]
    ]
