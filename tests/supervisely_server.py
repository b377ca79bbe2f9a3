"""A fake of Supervisely's server on loopback, which keeps everything in memory and records each request.

It stands for the REST API (`/public/api/v3/…`) of a real server, which needs an account. Its responses hold what the real
SDK reads from them: tests/tools/supervisely/ lets the SDK drive it until each call succeeds. What a real server checks, and
how it words its errors, it can't show.

A request is recorded as a dict: the call, its query, and its JSON, or the size and SHA-256 of its bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TOKEN = "t" * 128
TEAM, WORKSPACE = 7, 8
BASE = "/public/api/v3/"
PAGE = 500
TIME = "2026-01-01T00:00:00.000Z"

Document = dict[str, Any]


class RefusedError(Exception):
    """The server answers with an error.

    Attributes:
        status: HTTP status.
        document: The JSON of the response.
    """

    def __init__(self, status: int, document: Document) -> None:
        super().__init__(status, document)
        self.status = status
        self.document = document


@dataclass
class Faults:
    """What goes wrong; each count goes down by one each time.

    Attributes:
        errors: Call → number of times that it fails with status 500, before it does anything.
        lost: Call → number of times that it does its work, and its response is cut.
        cut: Call → numbers of bytes of a body after which the connection is closed, one after the other.
        ranges: Whether the server knows Range.
    """

    errors: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    cut: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True


class SuperviselyServer:
    """The fake; a context manager.

    Attributes:
        requests: All requests, in order.
        faults: What goes wrong.
        files: Team Files, by number: a description, and the bytes.
        projects, datasets, images: By number, as the server describes them.
        annotations: Number of an image → its annotation.
        delay_s: Time by which each response is late, as over a network; for the bench.
    """

    def __init__(self) -> None:
        self.requests: list[Document] = []
        self.faults = Faults()
        self.files: dict[int, tuple[Document, bytes]] = {}
        self.projects: dict[int, Document] = {}
        self.metas: dict[int, Document] = {}
        self.datasets: dict[int, Document] = {}
        self.images: dict[int, Document] = {}
        self.annotations: dict[int, Document] = {}
        # SHA-256 of an image that is no part of a blob → its bytes
        self.singles: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.delay_s = 0.0
        self._number = 100
        server = self

        class Handler(_Handler):
            fake = server

        self._http = _Server(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def calls(self, *names: str) -> list[Document]:
        """The recorded requests of these calls."""
        return [each for each in self.requests if each["call"] in names]

    def new_project(self, name: str = "project") -> int:
        """Make a project, and return its number."""
        return self.answer("projects.add", {}, {"name": name, "workspaceId": WORKSPACE})["id"]

    def new_dataset(self, project_id: int, name: str = "ds", parent: int | None = None) -> int:
        """Make a dataset, and return its number."""
        fields = {"projectId": project_id, "name": name, "parentId": parent}
        return self.answer("datasets.add", {}, fields)["id"]

    def next(self) -> int:
        self._number += 1
        return self._number

    def answer(self, call: str, query: Document, body: Any) -> Any:
        """Do the work of a call, and return its JSON; bytes for a download."""
        method = getattr(self, "do_" + re.sub(r"\W", "_", call), None)
        if method is None:
            raise RefusedError(
                404, {"error": "Not Found", "details": {"message": f"no call {call}"}}
            )
        with self.lock:
            return method({**query, **body} if isinstance(body, dict) else {**query, "bytes": body})

    # files of the team

    def add_file(self, path: str, data: bytes) -> Document:
        for number, (info, _) in list(self.files.items()):
            if info["path"] == path:
                del self.files[number]
        # of the path, because the SDK uploads several at once
        number = 10_000 + zlib.crc32(path.encode()) % 90_000
        info = {
            "id": number,
            "teamId": TEAM,
            "userId": 1,
            "name": path.rpartition("/")[2],
            "path": path,
            "storagePath": path,
            "hash": base64.b64encode(hashlib.sha256(data).digest()).decode(),
            "meta": {"size": len(data), "mime": "application/x-tar", "ext": "tar"},
            "createdAt": TIME,
            "updatedAt": TIME,
            "fullStorageUrl": f"http://storage{path}",
        }
        self.files[number] = (info, data)
        return info

    def do_file_storage_upload(self, fields: Document) -> Document:
        return self.add_file(fields["path"], fields["bytes"])

    def do_file_storage_bulk_upload(self, fields: Document) -> list[Document]:
        return [self.add_file(path, data) for path, data in fields["bytes"]]

    def do_file_storage_list(self, fields: Document) -> list[Document]:
        path = fields["path"].rstrip("/")
        return [
            info
            for info, _ in self.files.values()
            if info["path"] == path or info["path"].startswith(f"{path}/")
        ]

    def do_file_storage_info(self, fields: Document) -> Document:
        return self._of(self.files, fields["id"])[0]

    def do_file_storage_download(self, fields: Document) -> bytes:
        for info, data in self.files.values():
            if info["path"] == fields["path"]:
                return data
        raise RefusedError(404, {"error": "Not Found", "details": {"message": "no such file"}})

    # projects and datasets

    def do_projects_add(self, fields: Document) -> Document:
        if any(each["name"] == fields["name"] for each in self.projects.values()):
            raise RefusedError(
                400,
                {
                    "error": "Bad Request",
                    "details": [
                        {"type": "NONUNIQUE", "message": "name is not unique", "errors": []}
                    ],
                },
            )
        number = self.next()
        self.projects[number] = {
            "id": number,
            "name": fields["name"],
            "workspaceId": fields["workspaceId"],
            "teamId": TEAM,
            "groupId": TEAM,
            "type": "images",
            "description": "",
            "settings": {},
            "customData": fields.get("customData", {}),
            "createdAt": TIME,
            "updatedAt": TIME,
        }
        self.metas[number] = {"classes": [], "tags": [], "projectType": "images"}
        return self.projects[number]

    def do_projects_info(self, fields: Document) -> Document:
        return self._of(self.projects, fields["id"])

    def do_projects_list(self, fields: Document) -> Document:
        listed = [
            each for each in self.projects.values() if each["workspaceId"] == fields["workspaceId"]
        ]
        # a list holds no custom data
        return _page(
            [
                {k: v for k, v in each.items() if k != "customData"}
                for each in _filtered(listed, fields)
            ],
            fields,
        )

    def do_projects_editInfo(self, fields: Document) -> Document:  # noqa: N802
        project = self._of(self.projects, fields["id"])
        project["customData"] = fields["customData"]
        return project

    def do_projects_settings_update(self, fields: Document) -> Document:
        return self._of(self.projects, fields["id"])

    def do_projects_meta(self, fields: Document) -> Document:
        return self._of(self.metas, fields["id"])

    def do_projects_meta_update(self, fields: Document) -> Document:
        meta = json.loads(json.dumps(fields["meta"]))
        for kind in ("classes", "tags"):
            for number, each in enumerate(meta[kind]):
                each["id"] = 1000 + number
        self.metas[fields["id"]] = {**meta, "projectType": "images"}
        return self.metas[fields["id"]]

    def do_datasets_add(self, fields: Document) -> Document:
        key = (fields["projectId"], fields.get("parentId"), fields["name"])
        for each in self.datasets.values():
            if (each["projectId"], each["parentId"], each["name"]) == key:
                raise RefusedError(
                    400,
                    {
                        "error": "Bad Request",
                        "details": [
                            {"type": "NONUNIQUE", "message": "name is not unique", "errors": []}
                        ],
                    },
                )
        number = self.next()
        self.datasets[number] = {
            "id": number,
            "name": fields["name"],
            "description": "",
            "projectId": fields["projectId"],
            "parentId": fields.get("parentId"),
            "imagesCount": 0,
            "itemsCount": 0,
            "size": 0,
            "createdAt": TIME,
            "updatedAt": TIME,
        }
        return self.datasets[number]

    def do_datasets_info(self, fields: Document) -> Document:
        return self._of(self.datasets, fields["id"])

    def do_datasets_list(self, fields: Document) -> Document:
        listed = [
            each for each in self.datasets.values() if each["projectId"] == fields["projectId"]
        ]
        return _page(_filtered(listed, fields), fields)

    # images

    def do_images_bulk_add(self, fields: Document) -> list[Document]:
        dataset_id = fields["datasetId"]
        taken = {
            each["name"]: each["id"]
            for each in self.images.values()
            if each["datasetId"] == dataset_id
        }
        errors = [
            {"name": each["title"], "id": taken[each["title"]]}
            for each in fields["images"]
            if each["title"] in taken
        ]
        if errors:
            raise RefusedError(
                400,
                {
                    "error": "Bad Request",
                    "details": [
                        {
                            "type": "NONUNIQUE",
                            "message": "images with such names exist",
                            "errors": errors,
                        }
                    ],
                },
            )
        return [self._add_image(dataset_id, each) for each in fields["images"]]

    def _add_image(self, dataset_id: int, row: Document) -> Document:
        number = self.next()
        if "hash" in row:
            return self._add_single(number, dataset_id, row)
        _, data = self._of(self.files, row["teamFileId"])
        start, end = row["sourceBlob"]["offsetStart"], row["sourceBlob"]["offsetEnd"]
        if not 0 <= start <= end <= len(data):
            raise RefusedError(
                400, {"error": "Bad Request", "details": {"message": "offsets are out of range"}}
            )
        self.images[number] = {
            "id": number,
            "name": row["title"],
            "datasetId": dataset_id,
            "relatedDataId": row["teamFileId"],
            "downloadId": f"download-{row['teamFileId']}",
            "offsetStart": start,
            "offsetEnd": end,
            "size": end - start,
            "meta": row.get("meta", {}),
            "tags": [],
            "labelsCount": 0,
            "createdAt": TIME,
            "updatedAt": TIME,
        }
        self._count(dataset_id)
        return self.images[number]

    def _count(self, dataset_id: int) -> None:
        for count in ("imagesCount", "itemsCount"):
            self.datasets[dataset_id][count] += 1

    # single images, for the bench of the SDK

    def _add_single(self, number: int, dataset_id: int, row: Document) -> Document:
        self.images[number] = {
            "id": number,
            "name": row["title"],
            "datasetId": dataset_id,
            "hash": row["hash"],
            "size": len(self.singles[row["hash"]]),
            "meta": {},
            "tags": [],
            "labelsCount": 0,
            "createdAt": TIME,
            "updatedAt": TIME,
        }
        self._count(dataset_id)
        return self.images[number]

    def do_images_internal_hashes_list(self, fields: Document) -> list[str]:
        return [each for each in fields["bytes"] if each in self.singles]

    def do_images_bulk_upload(self, fields: Document) -> list[Document]:
        hashes = []
        for _, data in fields["bytes"]:
            hashes.append(base64.b64encode(hashlib.sha256(data).digest()).decode())
            self.singles[hashes[-1]] = data
        return [{"hash": each} for each in hashes]

    def do_images_bulk_download(self, fields: Document) -> bytes:
        pieces = []
        for number in fields["imageIds"]:
            head = f'--border\r\nContent-Disposition: form-data; name="{number}"\r\n\r\n'
            pieces += [head.encode(), self.singles[self.images[number]["hash"]], b"\r\n"]
        return b"".join([*pieces, b"--border--\r\n"])

    def do_images_bulk_remove(self, fields: Document) -> Document:
        for number in fields["imageIds"]:
            del self.images[number]
            self.annotations.pop(number, None)
        return {"success": True}

    def do_images_list(self, fields: Document) -> Document:
        listed = [each for each in self.images.values() if each["datasetId"] == fields["datasetId"]]
        return _page(_filtered(listed, fields), fields)

    def do_images_info(self, fields: Document) -> Document:
        return self._of(self.images, fields["id"])

    def do_images_data_download(self, fields: Document) -> bytes:
        return self._of(self.files, int(fields["downloadId"].partition("-")[2]))[1]

    def do_images_download(self, fields: Document) -> bytes:
        return self.singles[self._of(self.images, fields["id"])["hash"]]

    # annotations

    def do_annotations_bulk_add(self, fields: Document) -> Document:
        for each in fields["annotations"]:
            image = self._of(self.images, each["imageId"])
            self.annotations[image["id"]] = each["annotation"]
            image["labelsCount"] = len(each["annotation"]["objects"])
            image["tags"] = each["annotation"]["tags"]
            image["updatedAt"] = TIME.replace("00.000", "01.000")
        return {"success": True}

    def do_annotations_bulk_info(self, fields: Document) -> list[Document]:
        found = []
        for number in fields["imageIds"]:
            image = self.images[number]
            empty = {
                "description": "",
                "tags": [],
                "size": {"height": 16, "width": 24},
                "objects": [],
            }
            found.append(
                {
                    "imageId": number,
                    "imageName": image["name"],
                    "annotation": self.annotations.get(number, empty),
                    "createdAt": TIME,
                    "updatedAt": TIME,
                }
            )
        return found

    def do_figures_bulk_add(self, fields: Document) -> list[Document]:
        added = []
        for figure in fields["figures"]:
            self._of(self.images, figure["entityId"])
            added.append({"id": self.next(), **figure})
        return added

    def do_instance_version(self, _: Document) -> Document:
        return {"version": "6.12.0"}

    def _of(self, table: dict[int, Any], number: int) -> Any:
        if number not in table:
            raise RefusedError(
                404, {"error": "Not Found", "details": {"message": f"no entity {number}"}}
            )
        return table[number]


def _filtered(listed: list[Document], fields: Document) -> list[Document]:
    for each in fields.get("filter", []):
        value, name = each["value"], each["field"]
        listed = [
            one
            for one in listed
            if (one[name] in value if each["operator"] == "in" else one[name] == value)
        ]
    return sorted(listed, key=lambda one: one["id"])


def _page(listed: list[Document], fields: Document) -> Document:
    # both spellings are sent by the SDK
    page, size = fields.get("page", 1), fields.get("per_page") or fields.get("perPage") or PAGE
    return {
        "total": len(listed),
        "perPage": size,
        "pagesCount": max(1, -(-len(listed) // size)),
        "entities": listed[(page - 1) * size : page * size],
    }


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing if a client goes away, as a killed one does, and as the SDK does when it has learned a size."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: SuperviselyServer

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        call = parts.path.removeprefix(BASE)
        query = {
            key: int(value) if value.isdigit() else value for key, value in parse_qsl(parts.query)
        }
        raw = self._read()
        body, shown = self._parsed(raw)
        record = {"call": call, **({"query": query} if query else {}), **shown}
        if self.headers.get("Range"):
            record["range"] = self.headers["Range"]
        self.fake.requests.append(record)
        time.sleep(self.fake.delay_s)
        faults = self.fake.faults
        if self.headers.get("x-api-key") != TOKEN:
            self._send(403, {"error": "Forbidden", "details": {"message": "Invalid API token"}})
            return
        if faults.errors[call] > 0:
            faults.errors[call] -= 1
            self._send(500, {"error": "Internal Server Error", "details": {"message": "try again"}})
            return
        try:
            answer = self.fake.answer(call, query, body)
        except RefusedError as refused:
            self._send(refused.status, refused.document)
            return
        if isinstance(answer, bytes):
            self._send_bytes(call, answer)
            return
        if faults.lost[call] > 0:
            faults.lost[call] -= 1
            self._cut(json.dumps(answer).encode(), 10)
            return
        self._send(200, answer)

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _parsed(self, raw: bytes) -> tuple[Any, Document]:
        """Return the body of a request, and what is recorded of it."""
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("application/json"):
            body = json.loads(raw or b"{}")
            return body, {"json": body}
        if kind.startswith("multipart/form-data"):
            parts = _parts_of(raw, kind.partition("boundary=")[2])
            files = list(parts if "images.bulk.upload" in self.path else _files_of(parts))
            return files, {"files": [{"path": path, **_digest(data)} for path, data in files]}
        if not raw:
            return {}, {}
        return raw, {"bytes": _digest(raw)}

    def _send(self, status: int, document: Any) -> None:
        self._head(status, data := json.dumps(document).encode())
        self.wfile.write(data)

    def _head(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", _media_type(data))
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _send_bytes(self, call: str, data: bytes) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        status, more, sent = 200, {}, data
        if found and self.fake.faults.ranges:
            start = int(found[1])
            status, sent = 206, data[start:]
            more = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        self._head(status, sent, **more)
        cuts = self.fake.faults.cut.get(call)
        if cuts:
            self.wfile.write(sent[: cuts.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(sent)

    def _cut(self, data: bytes, count: int) -> None:
        self._head(200, data)
        self.wfile.write(data[:count])
        self.wfile.flush()
        time.sleep(0)
        self.close_connection = True


def _media_type(data: bytes) -> str:
    if data.startswith(b"--border"):
        return "multipart/form-data; boundary=border"
    return "application/json" if data[:1] in b"[{" else "application/x-tar"


def _digest(data: bytes) -> Document:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _parts_of(raw: bytes, boundary: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each part of a multipart body."""
    for part in raw.split(b"--" + boundary.strip('"').encode())[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        yield re.search(rb'name="([^"]*)"', head)[1].decode(), data.removesuffix(b"\r\n")


def _files_of(parts: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the bytes of each file of a body whose fields `name`, `path` and `file` repeat."""
    name = folder = ""
    for label, data in parts:
        if label == "name":
            name = data.decode()
        elif label == "path":
            folder = data.decode()
        elif label == "file":
            yield f"{folder}{name}", data
