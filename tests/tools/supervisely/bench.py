"""Measure blobpack beside the SDK, in one run: build, open, look up, upload and download 30,000 images of about 4 KB.

    scripts/test --tools supervisely                                     # makes the environment
    PYTHONPATH=tests .venv-supervisely/bin/python tests/tools/supervisely/bench.py [IMAGES [DELAY_MS [STEP]...]]

Each step is a process of its own; its seconds begin behind the imports, and its memory is the peak of the whole process. The
server is the fake of tests/supervisely_server.py on loopback, in the process that starts the others: there is no network and
no disk on its side, so that a real server only adds to the seconds of each request. With DELAY_MS, each response is late by
so many milliseconds, as over a network. With STEPs, such as blobpack_upload, only these run.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["LOG_LEVEL"] = "error"
LOOKUPS = 1000
# each takes a tenth of a second or more
SDK_LOOKUPS = 20
WORKSPACE = 8
TEAM = 7


def sdk_build(folder: Path) -> None:
    import supervisely as sly

    project = sly.Project(str(folder / "sdk"), sly.OpenMode.CREATE)
    project.set_meta(sly.ProjectMeta())
    tar = folder / "sdk" / "blob" / "images.tar"
    tar.parent.mkdir()
    sly.fs.archive_directory(str(folder / "imgs"), str(tar))
    dataset = project.create_dataset("ds")
    sly.fs.save_blob_offsets_pkl(str(tar), dataset.directory)
    for name in os.listdir(folder / "imgs"):
        size = sly.image.read(str(folder / "imgs" / name)).shape[:2]
        sly.json.dump_json_file(sly.Annotation(size).to_json(), f"{dataset.ann_dir}/{name}.json")


def blobpack_build(folder: Path) -> None:
    import blobpack
    from blobpack.integrations.supervisely import build_project

    blobpack.pack(folder / "imgs", folder / "images.tar")
    build_project(folder / "ours", {"ds": folder / "images.tar"})


def sdk_open(folder: Path) -> None:
    import supervisely as sly

    assert sly.Project(str(folder / "sdk"), sly.OpenMode.READ).total_items


def blobpack_open(folder: Path) -> None:
    from blobpack.integrations.supervisely import open_project

    assert sum(map(len, open_project(folder / "ours")))


def names(folder: Path, count: int) -> list[str]:
    return random.Random(1).choices(sorted(os.listdir(folder / "imgs")), k=count)


def sdk_lookups(folder: Path) -> float:
    import supervisely as sly

    (dataset,) = sly.Project(str(folder / "sdk"), sly.OpenMode.READ).datasets
    began = time.perf_counter()
    for name in names(folder, SDK_LOOKUPS):
        assert dataset.get_blob_img_bytes(name)
    return (time.perf_counter() - began) * LOOKUPS / SDK_LOOKUPS


def blobpack_lookups(folder: Path) -> float:
    from blobpack.integrations.supervisely import open_project

    (dataset,) = open_project(folder / "ours")
    assert len(dataset)
    began = time.perf_counter()
    for name in names(folder, LOOKUPS):
        assert dataset.read(name)
    return time.perf_counter() - began


def _api():
    import supervisely as sly

    return sly.Api(os.environ["SERVER_ADDRESS"], os.environ["API_TOKEN"], ignore_task_id=True)


def _client():
    from blobpack.integrations.supervisely import Client

    return Client(os.environ["SERVER_ADDRESS"], os.environ["API_TOKEN"])


def single_upload(folder: Path) -> None:
    api = _api()
    dataset = api.dataset.create(api.project.create(WORKSPACE, "single").id, "ds")
    listed = sorted((folder / "imgs").iterdir())
    api.image.upload_paths(dataset.id, [path.name for path in listed], list(map(str, listed)))


def sdk_upload(folder: Path) -> None:
    import supervisely as sly

    sly.upload_project(str(folder / "sdk"), _api(), WORKSPACE, "sdk", log_progress=False)


def blobpack_upload(folder: Path) -> None:
    _client().upload_project(folder / "ours", WORKSPACE, "ours")


def _number(name: str) -> int:
    found = _client()._rest.pages("projects.list", {"workspaceId": WORKSPACE})
    return next(each["id"] for each in found if each["name"] == name)


def single_download(folder: Path) -> None:
    import supervisely as sly

    sly.download_fast(_api(), _number("single"), str(folder / "single"), log_progress=False)


def sdk_download(folder: Path) -> None:
    import supervisely as sly

    sly.download_fast(
        _api(), _number("ours"), str(folder / "fast"), log_progress=True, download_blob_files=True
    )


def blobpack_download(folder: Path) -> None:
    _client().download_project(_number("ours"), folder / "down")


STEPS = {
    "build": ("sdk_build", "blobpack_build"),
    "open": ("sdk_open", "blobpack_open"),
    f"{LOOKUPS:,} look-ups": ("sdk_lookups", "blobpack_lookups"),
    "upload": ("single_upload", "sdk_upload", "blobpack_upload"),
    "download": ("single_download", "sdk_download", "blobpack_download"),
}
LABELS = {"single": "SDK, single images", "sdk": "SDK", "blobpack": "blobpack"}


def run(name: str, folder: Path) -> None:
    """Run one step, and print its seconds and its peak of memory."""
    if name.startswith("blobpack"):
        from blobpack.integrations.supervisely import Client, build_project, open_project  # noqa: F401
    else:
        import supervisely  # noqa: F401
    began = time.perf_counter()
    seconds = globals()[name](folder)
    if seconds is None:
        seconds = time.perf_counter() - began
    # not getrusage, whose peak a process inherits from the one that started it
    status = Path("/proc/self/status").read_text()
    print(json.dumps([seconds, int(status.partition("VmHWM:")[2].split()[0]) / 1024]))


def make_images(folder: Path, count: int) -> None:
    import io

    from PIL import Image

    noise = random.Random(2)
    (folder / "imgs").mkdir()
    for number in range(count):
        image = Image.frombytes("RGB", (72, 54), noise.randbytes(72 * 54 * 3))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=88)
        (folder / "imgs" / f"{number:06}.jpg").write_bytes(file.getvalue())


def main() -> None:
    """Run all steps, and print the table."""
    if sys.argv[1:] and not sys.argv[1].isdigit():
        run(sys.argv[1], Path(sys.argv[2]))
        return
    from supervisely_server import TOKEN, SuperviselyServer

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30_000
    delay_ms = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as folder, SuperviselyServer() as server:
        make_images(Path(folder), count)
        server.delay_s = delay_ms / 1000
        env = {**os.environ, "SERVER_ADDRESS": server.address, "API_TOKEN": TOKEN}
        print(
            f"{count:,} images, each response late by {delay_ms} ms\n\n| step | with | seconds | requests | peak memory |\n|---|---|---|---|---|"
        )
        for step, systems in STEPS.items():
            for name in systems:
                if sys.argv[3:] and name not in sys.argv[3:]:
                    continue
                server.requests.clear()
                done = subprocess.run(
                    [sys.executable, __file__, name, folder],
                    env=env,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                label = LABELS[name.partition("_")[0]]
                if done.returncode:
                    print(
                        f"| {step} | {label} | failed: {done.stderr.strip().splitlines()[-1][:100]} | | |"
                    )
                    continue
                seconds, megabytes = json.loads(done.stdout.strip().splitlines()[-1])
                print(
                    f"| {step} | {label} | {seconds:,.3f} | {len(server.requests):,} | {megabytes:,.0f} MB |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
