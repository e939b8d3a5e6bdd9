"""The browser of the tests: it opens pages, has a moving camera, and contacts no other machine."""

from __future__ import annotations

import pytest

PAGE = """<!doctype html><meta charset=utf-8><title>camera</title><video autoplay muted playsinline></video>
<img src="https://example.org/foreign.png"><script type=module>
const video = document.querySelector("video"), canvas = new OffscreenCanvas(64, 48);
video.srcObject = await navigator.mediaDevices.getUserMedia({video: true});
const sums = new Set(), pen = canvas.getContext("2d", {willReadFrequently: true});
while (sums.size < 3) {
  await new Promise(done => video.requestVideoFrameCallback(done));
  pen.drawImage(video, 0, 0, 64, 48);
  sums.add(pen.getImageData(0, 0, 64, 48).data.reduce((sum, value) => sum + value));
}
document.title = `${video.videoWidth}x${video.videoHeight}`;
</script>"""


def test_pages_are_served_and_see_a_camera_that_moves(page_at, serve):
    fastapi = pytest.importorskip("fastapi")
    application = fastapi.FastAPI()
    application.add_api_route("/", lambda: fastapi.responses.HTMLResponse(PAGE))
    with serve(application) as address:
        page = page_at(address)
        page.wait_for_function("() => document.title == '640x480'")
    assert page_at.foreign == ["https://example.org/foreign.png"] and page_at.errors == []
