"""What every command prints with --json is what docs/schema.json describes."""

import io
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from PIL import Image

import blobpack
from blobpack.cli.groups import all_commands
from blobpack.cli.main import main
from blobpack.integrations.supervisely import build_project

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "docs" / "schema.json").read_text())
PROGRAM = str(Path(sys.executable).with_name("blobpack"))
PRINT_NO_JSON = {"cat"}
with io.BytesIO() as _file:
    Image.new("L", (2, 2)).save(_file, "PNG")
    PNG = _file.getvalue()
COMMANDS = {
    "pack": [
        "pack files new.tar --all",
        "pack files new.tar --all --dry-run",
        "pack files f/ --all --shard-size 1Mi",
    ],
    "repack": ["repack out.tar new.tar --all"],
    "append": ["append out.tar more --all", "append collected more --prefix x --all"],
    "merge": ["merge out.tar other.tar new.tar"],
    "subset": ["subset out.tar new.tar --filter a*"],
    "collect": ["collect shards"],
    "export": [
        "export coco images.tar",
        "export label-studio images.tar --url http://127.0.0.1:8000/b/images",
    ],
    "extract": ["extract out.tar into"],
    "index": [
        "index out.tar",
        "index bare.tar --index embed --facts",
        "index shards",
        "index bare.tar --format hfutils",
        "index shards --format dali",
        "index shards --format wids -o shards.json",
    ],
    "info": ["info out.tar", "info shards", "info bare.tar --rescan"],
    "offsets": ["offsets out.tar", "offsets shards -o o/"],
    "verify": ["verify out.tar", "verify shards", "verify damaged.tar"],
    "ls": ["ls out.tar", "ls bare.tar", "ls shards", "ls collected"],
    "supervisely build": ["supervisely build images.tar project"],
    "supervisely check": ["supervisely check built", "supervisely check broken"],
    "supervisely download": [],  # tests/test_supervisely_cli.py
    "supervisely upload": [],
    "encord export": ["encord export images.tar made --url https://h/b/images"],
    "encord register": [],  # tests/tools/encord/
    "uploads": [],
    "gallery": ["gallery out.tar -o page.html"],
    "cors": [],
    "serve": [],
    "pixano serve": [],  # tests/tools/pixano-06
    "token": ["token out --keys keys", "token out/a* --keys keys --expires 2999-12-31"],
}


@pytest.fixture
def folder(tmp_path):
    for name, files in (("files", "ab"), ("more", "c")):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_bytes(file.encode() * 700)
    blobpack.pack(tmp_path / "files", tmp_path / "out.tar", all_files=True)
    blobpack.pack(tmp_path / "files", tmp_path / "bare.tar", all_files=True, index="none")
    blobpack.pack(tmp_path / "more", tmp_path / "other.tar", all_files=True)
    (tmp_path / "shards").mkdir()
    for name in ("out.tar", "other.tar"):
        (tmp_path / "shards" / name).write_bytes((tmp_path / name).read_bytes())
    (tmp_path / "collected").mkdir()
    blobpack.pack({"old": b"old"}, tmp_path / "collected" / "a.tar", all_files=True)
    blobpack.collect(tmp_path / "collected")
    blobpack.pack({"a.png": PNG}, tmp_path / "images.tar")
    for name in ("built", "broken"):
        build_project(tmp_path / name, {"ds": tmp_path / "images.tar"})
    (tmp_path / "broken" / "ds" / "ann" / "a.png.json").unlink()
    damaged = bytearray((tmp_path / "out.tar").read_bytes())
    damaged[600] ^= 1
    (tmp_path / "damaged.tar").write_bytes(damaged)
    (tmp_path / "keys").write_text("key:secret")
    return tmp_path


def printed(folder, command):
    done = subprocess.run(
        [PROGRAM, *command.split(), "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return list(map(json.loads, done.stdout.splitlines()))


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    with_json = {
        name
        for name, command in all_commands(main).items()
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert set(COMMANDS) == with_json
    assert set(all_commands(main)) - with_json == PRINT_NO_JSON
    # every key has a description, and is used by one command at least
    assert all(value.get("description") for value in SCHEMA["properties"].values())


@pytest.mark.parametrize("command", [line for lines in COMMANDS.values() for line in lines])
def test_what_a_command_prints_fits_the_schema(folder, command):
    found = printed(folder, command)
    assert found
    for each in found:
        jsonschema.validate(each, SCHEMA, cls=jsonschema.Draft202012Validator)
        typed = next(name for name in COMMANDS if command.startswith(f"{name} "))
        assert each.get("command") == (None if typed == "ls" else typed)


def test_rules_of_a_bucket_fit_the_schema(s3_env, bucket, tmp_path):
    for command in ("cors", "cors --set"):
        (found,) = printed(tmp_path, command.replace("cors", f"cors s3://{bucket}"))
        jsonschema.validate(found, SCHEMA, cls=jsonschema.Draft202012Validator)
        assert found.get("command") == ("cors" if "--set" in command else None)


def test_unfinished_uploads_fit_the_schema(s3_env, bucket, tmp_path):
    s3_env.client.create_multipart_upload(Bucket=bucket, Key="a.tar")
    (found,) = printed(tmp_path, f"uploads s3://{bucket}")
    jsonschema.validate(found, SCHEMA, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    "wrong",
    [
        {"command": "pack"},
        {"command": "nothing", "members": 1},
        {"name": "a", "size": -1, "offset_start": 0, "offset_end": 0},
        {"name": "a", "size": 1, "offset_start": 0, "offset_end": 0, "colour": "red"},
        {},
    ],
)
def test_other_objects_do_not_fit(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA, cls=jsonschema.Draft202012Validator)
