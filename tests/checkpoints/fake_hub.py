"""A Hub of one repository on this machine: the addresses, headers and errors that ``huggingface_hub`` asks for."""

import contextlib
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """``folder`` is served as ``repository``; ``asked`` lists the paths of all requests, ``sent`` what files were sent:
    name, first byte and the one behind the last; ``tokens`` as whom it was asked."""

    def __init__(self, folder: Path, repository: str, gated: bool = False, ranges: bool = True) -> None:
        self.folder, self.repository, self.gated, self.ranges = folder, repository, gated, ranges
        self.asked: list[str] = []
        self.sent: list[tuple[str, int, int]] = []
        self.tokens: list[str | None] = []
        self.url = ""

    @contextmanager
    def serving(self) -> Iterator["FakeHub"]:
        hub = self
        connections: list[socket.socket] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                connections.append(self.connection)

            def do_GET(self) -> None:
                self._answer(body=True)

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def _answer(self, body: bool) -> None:
                path = self.path.partition("?")[0]
                hub.asked.append(path)
                hub.tokens.append(self.headers.get("Authorization"))
                code, headers, content = hub.respond(path)
                wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
                first, end = 0, len(content)
                if wanted and hub.ranges and code == 200:
                    code, first, end = 206, int(wanted[1]), min(int(wanted[2]) + 1, len(content))
                    headers |= {"Content-Range": f"bytes {first}-{end - 1}/{len(content)}"}
                    content = content[first:end]
                if body and "/resolve/" in path and code < 300:
                    hub.sent.append((path.rpartition("/")[2], first, end))
                self.send_response(code)
                for name, value in ({"Content-Length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if body:
                    with contextlib.suppress(ConnectionError):  # who has read enough hangs up
                        self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            for connection in connections:  # whoever has asked before finds nobody there, too
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def respond(self, path: str) -> tuple[int, dict[str, str], bytes]:
        info = re.fullmatch(rf"/api/models/{self.repository}(/revision/([^/]+))?", path)
        file = re.fullmatch(rf"/{self.repository}/resolve/([^/]+)/(.+)", path)
        tree = re.fullmatch(rf"/api/models/{self.repository}/tree/([^/]+)", path)
        found = info or file or tree
        if found is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if self.gated:
            return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"}, b"{}"
        revision = found.group(2) if info else found.group(1)
        if revision not in (None, "main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        if file:
            target = self.folder / file.group(2)
            if not target.is_file():
                return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
            content = target.read_bytes()
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            return 200, headers, content
        files = sorted(path for path in self.folder.iterdir() if path.is_file())
        if tree:
            rows = [{"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40} for path in files]
            return 200, {"Content-Type": "application/json"}, json.dumps(rows).encode()
        siblings = [{"rfilename": path.name, "size": path.stat().st_size} for path in files]
        answer = {"id": self.repository, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()
