"""`liveportrait web`: serves one folder, with restrictive headers, and nothing else."""

from __future__ import annotations

import http.client
import os
from pathlib import Path

import pytest
from web_dist import serving

from liveportrait.apps.cli import main
from liveportrait.apps.web.build import build
from liveportrait.apps.web.server import MANIFEST, WebServer
from liveportrait.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks like a built page, next to a secret file."""
    built = tmp_path / "dist"
    (built / "graphs").mkdir(parents=True)
    files = {MANIFEST: "{}", "index.html": "<p>page", "main.js": "1", "graphs/a.onnx": "a", "b.wasm": "b"}
    for name, text in {**files, ".hidden": "hidden", "graphs/.hidden": "hidden"}.items():
        (built / name).write_text(text)
    (tmp_path / "secret").write_text("secret")
    (built / "link").symlink_to(tmp_path / "secret")
    return built


def asked(
    server: WebServer, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    """The response to a path that is sent unchanged."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=60)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def test_files_come_with_their_types_and_the_headers_that_confine_the_page(folder):
    with serving(folder) as server:
        page, data = asked(server, "/")
        assert (
            page.status == 200 and data == b"<p>page" and page.headers["Content-Type"].startswith("text/html")
        )
        assert page.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        policy = page.headers["Content-Security-Policy"]
        assert "connect-src 'self';" in policy and "'wasm-unsafe-eval'" in policy
        assert "unsafe-inline" not in policy and "'unsafe-eval'" not in policy and "http" not in policy
        types = {
            "/main.js": "text/javascript",
            "/b.wasm": "application/wasm",
            "/graphs/a.onnx": "octet-stream",
        }
        for path, kind in types.items():
            assert kind in asked(server, path)[0].headers["Content-Type"]
        assert asked(server, "/main.js", "HEAD")[1] == b""
        assert asked(server, "/main.js", "POST")[0].status == 501


def test_files_requested_by_checksum_are_cached_and_others_are_not(folder):
    with serving(folder) as server:
        kept = asked(server, "/graphs/a.onnx?sha256=12")[0].headers
        assert "immutable" in kept["Cache-Control"]
        plain = asked(server, "/graphs/a.onnx")[0].headers
        assert plain["Cache-Control"] == "no-cache"
        again, data = asked(server, "/graphs/a.onnx", **{"If-Modified-Since": plain["Last-Modified"]})
        assert again.status == 304 and data == b""


@pytest.mark.parametrize(
    "path",
    [
        "/../secret", "/%2e%2e/secret", "/graphs/../../secret", "/..%2fsecret", "//etc/passwd", "/link", "/graphs",
        "/graphs/", "/.hidden", "/graphs/.hidden", "/a%00b", "/..\\secret", "/missing?sha256=1",
    ],
)  # fmt: skip
def test_nothing_outside_the_folder_is_served(folder, path):
    with serving(folder) as server:
        answer, data = asked(server, path)
        assert answer.status == 404 and b"secret" not in data and b"hidden" not in data
        assert "immutable" not in answer.headers["Cache-Control"]
        assert answer.headers["Content-Security-Policy"]


def test_the_command_serves_until_it_is_stopped(folder, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    monkeypatch.setattr(WebServer, "serve_forever", lambda server: shown.append(server.address))
    assert main(["web", str(folder)]) == 0
    assert shown[0] == shown[1] and shown[0] in capsys.readouterr().out
    assert main(["web", str(folder), "--no-open"]) == 0
    assert len(shown) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no page was built there: run `make web`"),
        (["dist", "--port", "70000"], "cannot listen on 127.0.0.1:70000"),
        (["dist", "--host", "no.such.host.invalid"], "choose another --host or --port"),
    ],
)
def test_problems_of_serving_are_reported_in_one_line(folder, arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert main(["web", "--no-open", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_folder_with_other_files_is_not_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="was not built by this"):
        build(tmp_path, tmp_path)
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_missing_packages_are_reported_and_leave_no_files(tmp_path):
    with pytest.raises(UserError, match="npm ci"):
        build(tmp_path / "dist", tmp_path / "node_modules")
    assert not any(tmp_path.iterdir())
