"""A stand-in model and data hub on 127.0.0.1 that serves a folder, for tests without a network.

Layout: `<folder>/models/<org>/<name>/<files>` and `<folder>/datasets/<org>/<name>/<files>`. Any
revision is accepted and echoed as the commit, so a test may pin whatever it likes. It answers what
`huggingface_hub` asks for: repository information, the tree, HEAD and GET of files. `facts` says more of a
repository: `gated` (what the hub calls its gate; its files then answer 403), `licence`, `revisions`, the only
ones it has, and `status`, with which it answers every question.

`huggingface_hub` reads its settings when it is imported, so code under test runs in a subprocess
with `hub_environment(url, home)`, which puts its cache into a temporary folder:

    with HubServer(folder) as server:
        subprocess.run([sys.executable, "-c", code], env=hub_environment(server.url, tmp_path / "home"))
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

KINDS = ("models", "datasets")


def hub_environment(url: str, home: Path) -> dict[str, str]:
    """A copy of this process's environment that points `huggingface_hub` at `url`, with an empty cache.

    Variables that would switch the hub off, or send the request through a proxy, are left out.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("HF_", "HUGGING")) and name.upper() != "TRANSFORMERS_OFFLINE"
    }
    return {
        **kept,
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


class HubServer:
    """Serve `folder` while the `with` block runs; `url` is the endpoint, `requests` the log."""

    def __init__(self, folder: Path | str, facts: dict[str, dict[str, Any]] | None = None) -> None:
        self.folder = Path(folder).resolve()
        self.facts = facts or {}
        self.requests: list[str] = []

    def __enter__(self) -> HubServer:
        handler = type(
            "Handler", (_Handler,), {"folder": self.folder, "facts": self.facts, "log": self.requests}
        )
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    facts: dict[str, dict[str, Any]]
    log: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent; `HubServer.requests` holds the log."""

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.log.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if ".." in parts:  # links inside the folder may lead out of it, a request may not
            self._send(404, b"unknown path", body, {})
            return
        if parts[0] == "api" and len(parts) >= 4 and parts[1] in KINDS:
            self._answer_api(parts[1], "/".join(parts[2:4]), parts[4:], body)
            return
        kind = "models"
        if parts[0] in KINDS:
            kind, parts = parts[0], parts[1:]
        if len(parts) >= 5 and parts[2] in ("resolve", "raw"):
            self._answer_file(kind, "/".join(parts[:2]), parts[3], "/".join(parts[4:]), body)
            return
        self._send(404, b"unknown path", body, {})

    def _repository(self, kind: str, name: str) -> Path | None:
        root = self.folder / kind / name
        return root if root.is_dir() else None

    def _answer_api(self, kind: str, name: str, rest: list[str], body: bool) -> None:
        root = self._repository(kind, name)
        if root is None:
            self._send(404, b'{"error":"Repository not found"}', body, {"X-Error-Code": "RepoNotFound"})
            return
        revision = rest[1] if len(rest) > 1 else "main"
        facts = self.facts.get(name, {})
        if "status" in facts:
            self._send(facts["status"], b'{"error":"no"}', body, {})
            return
        if revision not in facts.get("revisions", [revision]):
            self._send(404, b'{"error":"Invalid rev id"}', body, {"X-Error-Code": "RevisionNotFound"})
            return
        files = sorted(file for file in root.rglob("*") if file.is_file())
        names = [file.relative_to(root).as_posix() for file in files]
        value: Any
        if rest[:1] == ["tree"]:
            value = [
                {"type": "file", "path": path, "size": file.stat().st_size, "oid": _etag(file)}
                for path, file in zip(names, files, strict=True)
            ]
        else:
            value = {
                "_id": hashlib.sha256(name.encode()).hexdigest()[:24],
                "id": name,
                "modelId": name,
                "sha": revision,
                "private": False,
                "gated": facts.get("gated", False),
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [f"license:{facts['licence']}"] if "licence" in facts else [],
                "siblings": [{"rfilename": path} for path in names],
            }
        content = {"Content-Type": "application/json", "X-Repo-Commit": revision}
        self._send(200, json.dumps(value).encode(), body, content)

    def _answer_file(self, kind: str, name: str, revision: str, path: str, body: bool) -> None:
        root = self._repository(kind, name)
        if root is None:
            self._send(404, b"Repository not found", body, {"X-Error-Code": "RepoNotFound"})
            return
        if self.facts.get(name, {}).get("gated"):
            self._send(403, b"gated", body, {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask first"})
            return
        file = root / path
        commit = {"X-Repo-Commit": revision}
        if not file.is_file():
            self._send(404, b"Entry not found", body, {**commit, "X-Error-Code": "EntryNotFound"})
            return
        data = file.read_bytes()
        headers = {**commit, "ETag": f'"{_etag(file)}"', "Accept-Ranges": "bytes"}
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and "," not in wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else len(data), len(data))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            self._send(206, data[start:stop], body, headers)
            return
        self._send(200, data, body, headers)

    def _send(self, status: int, data: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/octet-stream", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


def _etag(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
