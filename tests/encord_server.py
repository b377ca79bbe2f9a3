"""A recorder on loopback that stands for Encord's API: it keeps folders and jobs in memory, and records what it is sent.

It stands for the routes below `/v2/public/` that the SDK calls to register files: cloud-integrations, storage/folders and
data-upload-jobs. Its responses hold what the real SDK reads from them: tests/tools/encord/ lets the SDK drive it. It fetches no
URL. What Encord itself checks, how long a job takes, and how it words its errors, it can't show.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

BASE = "/v2/public/"
TIME = "2026-01-01T00:00:00.000000Z"
INTEGRATION = str(uuid.UUID(int=1))
TITLE = "gateway"
FOLDER = re.compile(r"storage/folders/([0-9a-f-]{36})")
JOBS = re.compile(r"storage/folders/([0-9a-f-]{36})/data-upload-jobs(?:/([0-9a-f-]{36}))?")

Document = dict[str, Any]


class EncordServer:
    """The recorder; a context manager.

    Attributes:
        requests: Each request: the method, the route, and its JSON.
        folders: Folders by their ids.
        jobs: What each job was started with, by its id.
        refused: A URL that holds this text can't be registered; "" for none.
        errors: HTTP status and message that every request is answered with; None for none.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Document | None]] = []
        self.folders: dict[str, Document] = {}
        self.jobs: dict[str, Document] = {}
        self.refused = ""
        self.errors: tuple[int, str] | None = None
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    @property
    def domain(self) -> str:
        """What the SDK is told as domain."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def sent(self) -> list[Document]:
        """What the jobs were started with, in order."""
        return list(self.jobs.values())

    def new_folder(self, name: str) -> str:
        """Make a folder, and return its id."""
        number = str(uuid.UUID(int=100 + len(self.folders)))
        self.folders[number] = {
            "uuid": number,
            "parent": None,
            "name": name,
            "description": "",
            "clientMetadata": None,
            "owner": "me@example.org",
            "createdAt": TIME,
            "lastEditedAt": TIME,
            "userRole": "admin",
            "syncedDatasetHash": None,
            "pathToRoot": [],
        }
        return number

    def answer(self, method: str, route: str, query: dict[str, list[str]], sent: Document | None):
        """Return the status and the JSON of the response."""
        if self.errors:
            return self.errors[0], {"message": self.errors[1]}
        if route == "cloud-integrations":
            return 200, {"result": [{"integrationUuid": INTEGRATION, "title": TITLE}]}
        if route == "storage/folders" and method == "POST":
            return 200, self.folders[self.new_folder(sent["name"])]
        if route == "storage/folders":
            text = query.get("search", [""])[0]
            found = [each for each in self.folders.values() if text in each["name"]]
            return 200, {"results": found, "nextPageToken": None}
        if (match := FOLDER.fullmatch(route)) and match[1] in self.folders:
            return 200, self.folders[match[1]]
        match = JOBS.fullmatch(route)
        if match and match[1] in self.folders and method == "POST":
            job = str(uuid.UUID(int=1000 + len(self.jobs)))
            self.jobs[job] = sent
            return 200, job
        if match and match[2] in self.jobs:
            return 200, self.state_of(self.jobs[match[2]])
        return 404, {"message": "there is no such thing"}

    def state_of(self, job: Document) -> Document:
        """Return the state of a job that has ended."""
        content = job.get("externalFiles") or job["dataItems"]
        items = [item for listed in content.values() if isinstance(listed, list) for item in listed]
        urls = [url for item in items for url in texts_in(item) if "://" in url]
        failed = [url for url in urls if self.refused and self.refused in url]
        return {
            "status": "ERROR" if failed and not job["ignoreErrors"] else "DONE",
            "itemsWithNames": [
                {"itemUuid": str(uuid.UUID(int=n)), "name": str(item.get("title"))}
                for n, item in enumerate(items)
                if not failed
            ],
            "errors": [],
            "unitsPendingCount": 0,
            "unitsDoneCount": len(items),
            "unitsErrorCount": len(failed),
            "unitsCancelledCount": 0,
            "unitErrors": [
                {
                    "objectUrls": [url],
                    "error": "can't be read",
                    "subtaskUuid": str(uuid.UUID(int=5)),
                    "actionDescription": "Uploading image",
                }
                for url in failed
            ],
        }

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 (`self` is the handler)
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def respond(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                sent = json.loads(body) if body else None
                route = parts.path.removeprefix(BASE)
                server.requests.append((self.command, route, sent))
                status, answer = 401, {"message": "the request is not signed"}
                if "ed25519" in self.headers.get("Signature-Input", ""):
                    status, answer = server.answer(self.command, route, parse_qs(parts.query), sent)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = respond  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        return Handler


def texts_in(value: object) -> list[str]:
    """Return all texts in a JSON value."""
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inside for text in texts_in(each)]
