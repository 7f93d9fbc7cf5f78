"""A server that answers as the hub of Hugging Face does, with repositories that a test publishes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY = r"[\w.-]+/[\w.-]+"
FILE = re.compile(rf"/((?:datasets/)?{REPOSITORY})/resolve/([^/]+)/(.+)")
ABOUT = re.compile(rf"/api/(?:models/)?((?:datasets/)?{REPOSITORY})(?:/revision/([^/]+))?")
LISTING = re.compile(rf"/api/(?:models/)?((?:datasets/)?{REPOSITORY})/(?:tree|paths-info)/([^/]+)(?:/(.+))?")

Files = dict[str, bytes]


class Hub(ThreadingHTTPServer):
    """Of each repository, datasets/ID where it is a data set, the commits; the last of them is its main."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.commits: dict[str, dict[str, Files]] = {}

    def environment(self, home: Path) -> dict[str, str]:
        """Of a process that has no other hub, and keeps what it gets from this one in a folder."""
        address = f"http://127.0.0.1:{self.server_port}"
        return {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}

    def run(self, code: str, home: Path) -> str:
        """What Python code prints in such a process, which must not fail."""
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=self.environment(home),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def publish(self, repository: str, folder: Path) -> str:
        """A folder's files as they are now are the repository's next commit, whose id it gives."""
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        commit = hashlib.sha1(repr(files).encode()).hexdigest()
        self.commits.setdefault(repository, {})[commit] = files
        return commit

    def at(self, repository: str, revision: str | None) -> tuple[str, Files] | None:
        """A commit and its files; None where there is none."""
        commits = self.commits.get(repository, {})
        commit = next(reversed(commits), "") if revision in (None, "main") else str(revision)
        return (commit, commits[commit]) if commit in commits else None


class _Asked(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        url = urlsplit(self.path)
        for pattern, answer in ((FILE, self._file), (LISTING, self._listing), (ABOUT, self._about)):
            if found := pattern.fullmatch(unquote(url.path)):
                repository, revision, *inside = found.groups()
                here = self.server.at(repository, revision)
                if here is None:
                    return self._refuse("RepoNotFound", "Repository not found")
                asked = parse_qs(f"{url.query}&{body}")
                return answer(repository.removeprefix("datasets/"), *here, *inside, asked)  # type: ignore[operator]
        self._refuse("", "there is nothing here")

    do_HEAD = do_POST = do_GET

    def _file(self, _: str, commit: str, files: Files, name: str, *__: Any) -> None:
        if name in files:
            self._answer(200, commit, files[name])
        else:
            self._refuse("EntryNotFound", "Entry not found", commit)

    def _about(self, repository: str, commit: str, files: Files, *_: Any) -> None:
        siblings = [{"rfilename": name} for name in files]
        about = {"id": repository, "sha": commit, "siblings": siblings, "tags": []}
        self._answer(200, commit, json.dumps(about).encode())

    def _listing(
        self, _: str, commit: str, files: Files, inside: str | None, asked: dict[str, list[str]]
    ) -> None:
        """Files and folders: those that are named, else what is in a folder, or below it."""
        folders = {str(parent) for name in files for parent in Path(name).parents} - {"."}
        entries = {name: _entry(name, files.get(name)) for name in sorted({*files, *folders})}
        if "paths" in asked:
            chosen = [name for name in asked["paths"] if name in entries]
        elif asked.get("recursive", [""])[0].lower() == "true":
            chosen = [name for name in entries if name.startswith(f"{inside}/" if inside else "")]
        else:
            chosen = [name for name in entries if str(Path(name).parent) == (inside or ".")]
        self._answer(200, commit, json.dumps([entries[name] for name in chosen]).encode())

    def _answer(self, status: int, commit: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        if commit:
            self.send_header("X-Repo-Commit", commit)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, code: str, message: str, commit: str = "") -> None:
        self._answer(404, commit, b"", X_Error_Code=code, X_Error_Message=message)

    def log_message(self, *_: Any) -> None:
        pass


def _entry(name: str, content: bytes | None) -> dict[str, Any]:
    if content is None:
        return {"type": "directory", "path": name, "oid": "0" * 40}
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """The hub while the block lasts."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
