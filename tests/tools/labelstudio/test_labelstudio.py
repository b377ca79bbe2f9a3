"""Label Studio's own server imports the tasks, and shows the images of the blob."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from pages import DOCS

from blobpack.integrations.export import write_export

LABEL_STUDIO = Path(sys.executable).with_name("label-studio")
TOKEN = "0123456789abcdef0123456789abcdef01234567"
# its first start makes a database by hundreds of migrations
START_S = 600


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.fixture
def label_studio(tmp_path):
    """URL of a new Label Studio, which knows one user."""
    port = free_port()
    command = [
        LABEL_STUDIO,
        "start",
        "--no-browser",
        "--internal-host",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    command += ["--username", "a@example.org", "--password", "password1", "--user-token", TOKEN]
    env = {
        **os.environ,
        "LABEL_STUDIO_BASE_DATA_DIR": str(tmp_path / "data"),
        "COLLECT_ANALYTICS": "0",
        "SENTRY_DSN": "",
    }
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--enable-legacy-api-token"], env=env, stdout=log, stderr=log, cwd=tmp_path
        )
    try:
        deadline = time.monotonic() + START_S
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None, (tmp_path / "log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


def answers(url):
    try:
        return requests.get(url, timeout=10).ok
    except requests.RequestException:
        return False


def test_a_project_of_the_tasks(served, tmp_path, label_studio):
    write_export(served.blob, tmp_path / "tasks.json", "label-studio", url=served.url)
    page = (DOCS / "guides" / "export.md").read_text()
    (config,) = re.findall(r"<View>.*?</View>", page, re.DOTALL)
    with requests.Session() as session:
        session.headers["Authorization"] = f"Token {TOKEN}"
        fields = {"title": "animals", "label_config": config}
        project = session.post(f"{label_studio}/api/projects/", json=fields, timeout=60).json()[
            "id"
        ]
        with (tmp_path / "tasks.json").open("rb") as file:
            imported = session.post(
                f"{label_studio}/api/projects/{project}/import", files={"file": file}, timeout=60
            ).json()
        assert imported["task_count"] == len(served.images)
        query = {"project": project, "page_size": 100}
        tasks = session.get(f"{label_studio}/api/tasks", params=query, timeout=60).json()["tasks"]
        found = {}
        for task in tasks:
            # as the browser does, from a page of another origin
            answer = session.get(
                task["data"]["image"], headers={"Origin": label_studio}, timeout=60
            )
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            found[task["data"]["name"]] = answer.content
    assert found == served.images
