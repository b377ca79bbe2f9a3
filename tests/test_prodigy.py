"""Prodigy: tasks, the recipes, what they fetch and list, and what stays in the database.

Prodigy is not on the registry, so `prodigy_fake.py` takes its place. The last test runs only where a licensed Prodigy can
be imported.
"""

import base64
import importlib.util
import inspect
import io
import json
import os
import re
import subprocess
import sys
import time
import tomllib
import typing
import urllib.request
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import prodigy_fake
import pytest
from gatewayserver import serving
from PIL import Image

import blobpack
from blobpack.errors import BlobNotFoundError, FormatError, MemberNotFoundError, StorageError
from blobpack.gateway.app import gateway_app
from blobpack.integrations.prodigy import (
    annotated,
    blob_loader,
    object_tasks,
    rehydrate,
    store_references,
    tasks,
)
from blobpack.integrations.prodigy.kept_listing import KeptListing
from blobpack.stores.s3.bucket import Bucket

ROOT = Path(__file__).parents[1]
FAKE = ROOT / "tests" / "prodigy_fake.py"
RECIPES = ["blob.image.classify", "blob.image.manual", "blob.mark", "s3.image.manual"]
PREFIX = "imgs/"


def png(number, size=(8, 6)):
    with io.BytesIO() as file:
        Image.new("RGB", size, (number % 256, number // 256, 7)).save(file, "PNG")
        return file.getvalue()


IMAGES = {f"{number:04}.png": png(number) for number in range(10)}


@pytest.fixture
def fake(prodigy_in_place):
    """The recipes, handed to the fake of Prodigy."""
    import blobpack.integrations.prodigy.recipes as recipes

    yield recipes
    del sys.modules["blobpack.integrations.prodigy.recipes"]


@pytest.fixture
def blob(tmp_path):
    path = tmp_path / "out.tar"
    blobpack.pack(IMAGES, path)
    return path


@pytest.fixture
def s3_blob(blob, bucket, s3_env):
    return s3_env.put(bucket, "blobs/out.tar", blob.read_bytes())


@pytest.fixture
def prefix(bucket, s3_env):
    """Ten images below a prefix, and an object that a console made for it."""
    s3_env.put(bucket, PREFIX, b"")
    for name, payload in IMAGES.items():
        s3_env.put(bucket, PREFIX + name, payload)
    return bucket


@pytest.fixture
def small_pages(monkeypatch):
    """Listings in pages of three keys, where S3 has a thousand."""
    ask = Bucket.ask

    def ask_for_three(self, operation, **arguments):
        if operation == "list_objects_v2":
            arguments["MaxKeys"] = 3
        return ask(self, operation, **arguments)

    monkeypatch.setattr(Bucket, "ask", ask_for_three)


def pixels(uri):
    head, _, data = uri.partition(",")
    assert head.startswith("data:image/")
    assert head.endswith(";base64")
    return base64.b64decode(data)


def media_type(uri):
    return uri[len("data:") : uri.index(";")]


def keys(shown):
    return [task["meta"]["key"] for task in shown]


def run(components, answers=4, pick=lambda shown: shown):
    """Run one session: show a batch, answer some of it, stop. Return the tasks shown, and the progress."""
    session = prodigy_fake.Session(components)
    shown = session.batch(answers)
    session.answer(pick(shown))
    session.close()
    return shown, session.progress


def lists(requests):
    """The listings among the requests that reached the server: where each begins."""
    queries = [parse_qs(urlsplit(request.path).query) for request in requests]
    return [query.get("start-after", [""])[0] for query in queries if "list-type" in query]


def gets(requests):
    """The keys of the objects that were fetched."""
    paths = [urlsplit(request.path) for request in requests if request.method == "GET"]
    return [
        url.path.partition("/")[2].partition("/")[2]
        for url in paths
        if "list-type" not in url.query
    ]


def documents_stream(bucket, prefix, in_db, **paging):
    """The stream of the recipe that the document shows, step by step: what ours is compared with."""
    s3 = boto3.client("s3")
    pages = s3.get_paginator("list_objects").paginate(
        Bucket=bucket, Prefix=prefix, PaginationConfig=paging
    )
    for page in pages:
        for found in page["Contents"]:
            key = found["Key"]
            # the document compares with f"{prefix}/", and prefixes here end with "/"
            if key == prefix or key in in_db:
                continue
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            encoded = base64.b64encode(body).decode("ascii")
            yield {"image": f"data:image/jpg;base64,{encoded}", "meta": {"key": key}}
    s3.close()


class TestTasks:
    def test_a_task_has_pixels_key_reference_and_hashes(self, blob):
        with blobpack.open(blob) as reader:
            stream = tasks(reader)
            assert (stream.total, stream.annotated) == (10, 0)
            found = list(stream)
        assert keys(found) == list(IMAGES)
        assert [pixels(task["image"]) for task in found] == list(IMAGES.values())
        assert found[0]["path"] == "blob://out.tar/0000.png"
        assert len({task["_input_hash"] for task in found}) == 10
        assert all(-(1 << 31) <= task["_task_hash"] < 1 << 31 for task in found)
        assert json.loads(json.dumps(found)) == found

    @pytest.mark.parametrize("facts", [True, False])
    def test_the_media_type_is_the_true_one_whatever_the_name_says(
        self, facts, tmp_path, small_images
    ):
        jpeg = small_images["cats/0001.jpg"]
        members = {"a.png": jpeg, "b.jpg": png(1), "c": jpeg, "notes.txt": b"no image"}
        blobpack.pack(members, tmp_path / "a.tar", facts=facts, all_files=True)
        with blobpack.open(tmp_path / "a.tar") as reader:
            stream = tasks(reader)
            found = list(stream)
        assert [media_type(task["image"]) for task in found] == [
            "image/jpeg",
            "image/png",
            "image/jpeg",
        ]
        # what is no image is left out, and no longer counts
        assert stream.total == 3

    def test_a_blob_with_strange_names(self, tmp_path):
        strange = {"dogs/größer 1.png": png(1), "100%/#?.png": png(2)}
        blobpack.pack(strange, tmp_path / "a b.tar")
        with blobpack.open(tmp_path / "a b.tar") as reader:
            found = list(tasks(reader))
            stored = store_references(found)
            again = list(rehydrate(stored, reader))
        assert [task["path"] for task in found] == [
            "blob://a%20b.tar/dogs/gr%C3%B6%C3%9Fer%201.png",
            "blob://a%20b.tar/100%25/%23%3F.png",
        ]
        assert again == found

    def test_of_members_of_one_name_the_last_one_is_shown(self, tmp_path):
        import tarfile

        with tarfile.open(tmp_path / "twice.tar", "w") as tar:
            for number, name in enumerate(["a.png", "b.png", "a.png"]):
                member = tarfile.TarInfo(name)
                member.size = len(png(number))
                tar.addfile(member, io.BytesIO(png(number)))
        with blobpack.open(tmp_path / "twice.tar") as reader:
            found = [(task["meta"]["key"], pixels(task["image"])) for task in tasks(reader)]
        assert found == [("b.png", png(1)), ("a.png", png(2))]

    def test_globs_predicates_and_conditions_of_the_index(self, blob):
        with blobpack.open(blob) as reader:
            chosen = reader.index.select(
                "000[2-5].png", where=lambda member: member.name != "0003.png"
            )
            assert keys(tasks(reader, members=chosen)) == ["0002.png", "0004.png", "0005.png"]
            assert keys(tasks(reader, members=["0007.png", 1])) == ["0001.png", "0007.png"]
            assert keys(tasks(reader, members=reader.index.select(min_width=100))) == []

    def test_a_seed_gives_one_order_and_what_is_annotated_does_not_change_it(self, blob):
        with blobpack.open(blob) as reader:
            shuffled = keys(tasks(reader, shuffle=3))
            assert shuffled == keys(tasks(reader, shuffle=3))
            assert sorted(shuffled) == list(IMAGES) != shuffled
            assert shuffled != keys(tasks(reader, shuffle=4))
            assert keys(tasks(reader, shuffle=3, skip=set(shuffled[:6]))) == shuffled[6:]

    def test_with_a_url_nothing_is_read(self, s3_blob, faults):
        with blobpack.open(s3_blob) as reader:
            before = len(faults.requests)
            found = list(tasks(reader, url="http://127.0.0.1:8080/k/token/b/out.tar/"))
            assert len(faults.requests) == before
        assert found[0]["image"] == "http://127.0.0.1:8080/k/token/b/out.tar/0000.png"
        assert keys(found) == list(IMAGES)

    def test_the_gateway_serves_the_urls_of_any_names(self, tmp_path):
        strange = {"dogs/größer 1.png": png(1), "100%/#?.png": png(2), "a.png": png(3)}
        blobpack.pack(strange, tmp_path / "out.tar")
        with (
            blobpack.open(tmp_path / "out.tar") as reader,
            serving(gateway_app({"out": reader})) as client,
        ):
            for task in tasks(reader, url=f"{client.url}/b/out"):
                with urllib.request.urlopen(task["image"]) as answer:
                    assert answer.read() == strange[task["meta"]["key"]]
                    assert answer.headers["Content-Type"] == "image/png"

    def test_fields_are_part_of_the_task_and_of_its_task_hash(self, blob):
        with blobpack.open(blob) as reader:
            cat, dog = (next(tasks(reader, fields={"label": label})) for label in ("CAT", "DOG"))
        assert (cat["label"], dog["label"]) == ("CAT", "DOG")
        assert cat["_input_hash"] == dog["_input_hash"]
        assert cat["_task_hash"] != dog["_task_hash"]

    def test_the_loader_yields_the_tasks_of_a_blob(self, blob):
        assert keys(blob_loader(str(blob))) == list(IMAGES)

    def test_a_missing_blob_is_named(self, tmp_path):
        with pytest.raises(BlobNotFoundError, match=r"nothing\.tar"):
            next(blob_loader(tmp_path / "nothing.tar"))

    def test_misuse_names_the_argument(self, blob, tmp_path):
        with blobpack.open(blob) as reader:
            for error, word, wrong in (
                (TypeError, "skip", {"skip": "0001.png"}),
                (TypeError, "members", {"members": "0001.png"}),
                (MemberNotFoundError, "none.png", {"members": ["none.png"]}),
                (TypeError, "shuffle", {"shuffle": 1.5}),
                (ValueError, "url", {"url": "s3://bucket/out.tar"}),
                (TypeError, "url", {"url": 5}),
                (TypeError, "blob_name", {"blob_name": 5}),
                (ValueError, "read_ahead", {"read_ahead": 0}),
            ):
                with pytest.raises(error, match=word):
                    tasks(reader, **wrong)
        with pytest.raises(TypeError, match="reader"):
            tasks(blob)
        with pytest.raises(TypeError, match="examples"):
            store_references("one")
        with pytest.raises(TypeError, match="reader"):
            rehydrate([], "out.tar")
        with pytest.raises(TypeError, match="db"):
            annotated(object(), "cats")
        with pytest.raises(TypeError, match="dataset"):
            annotated(prodigy_fake.Database(tmp_path / "db"), 5)
        for error, word, wrong in (
            (ValueError, "bucket", {"bucket": "bucket/prefix"}),
            (TypeError, "prefix", {"prefix": 5}),
            (TypeError, "where", {"where": "big"}),
            (TypeError, "relist", {"relist": "yes"}),
            (TypeError, "globs", {"globs": 5}),
        ):
            with pytest.raises(error, match=word):
                object_tasks(**{"bucket": "bucket"} | wrong)


class TestIdentity:
    def hashes(self, source, **options):
        with blobpack.open(source) as reader:
            return {
                task["path"]: (task["_input_hash"], task["_task_hash"])
                for task in tasks(reader, **options)
            }

    def test_hashes_stay_when_a_blob_is_moved_collected_or_shown_by_url(
        self, blob, s3_blob, tmp_path
    ):
        hashes = self.hashes(blob)
        assert self.hashes(s3_blob) == hashes
        assert self.hashes(blob, url="http://127.0.0.1:1/b/out.tar") == hashes
        (tmp_path / "shards").mkdir()
        blob.rename(tmp_path / "shards" / "out.tar")
        blobpack.pack({"other.png": png(99)}, tmp_path / "shards" / "other.tar")
        blobpack.collect(tmp_path / "shards")
        collected = self.hashes(tmp_path / "shards")
        assert collected.pop("blob://other.tar/other.png")
        assert collected == hashes

    def test_images_of_two_blobs_may_have_one_name(self, blob, tmp_path, fake):
        blobpack.pack(IMAGES, tmp_path / "second.tar")
        shown, _ = run(fake.blob_image_manual("ds", blob, label=["CAT"]), answers=10)
        again, _ = run(fake.blob_image_manual("ds", tmp_path / "second.tar", label=["CAT"]), 10)
        assert keys(shown) == keys(again) == list(IMAGES)
        assert run(fake.blob_image_manual("ds", blob, label=["CAT"]))[0] == []

    def test_a_name_for_blobs_of_one_file_name(self, blob, tmp_path, fake):
        (tmp_path / "b").mkdir()
        blobpack.pack(IMAGES, tmp_path / "b" / "out.tar")
        run(fake.blob_mark("ds", blob), answers=10)
        shown, _ = run(fake.blob_mark("ds", tmp_path / "b" / "out.tar", blob_name="b"), answers=10)
        assert [task["path"] for task in shown] == [f"blob://b/{name}" for name in IMAGES]
        with blobpack.open(tmp_path / "b" / "out.tar") as reader:
            stored = store_references(shown)
            assert len(list(rehydrate(stored, reader, blob_name="b"))) == 10
            with pytest.raises(MemberNotFoundError, match=r"0000\.png.* in the blob b, .*out\.tar"):
                list(rehydrate(stored, reader))


class TestDatabase:
    def test_an_image_counts_by_reference_or_by_bare_key(self, tmp_path):
        db = prodigy_fake.Database(tmp_path / "db")
        rows = [
            {"image": "blob://out.tar/a.png", "meta": {"key": "a.png"}},
            # as Prodigy's own image.manual stores it, with the loader
            {
                "image": "data:image/png;base64,AA",
                "path": "blob://out.tar/b.png",
                "meta": {"key": "b"},
            },
            # as the recipe that streams from S3 stores it
            {"image": "imgs/c.png", "meta": {"key": "imgs/c.png"}},
            {"image": "https://host/d.png"},
            {"text": "no image"},
        ]
        db.add_examples(rows, ["ds"])
        assert annotated(db, "ds") == {"blob://out.tar/a.png", "blob://out.tar/b.png", "imgs/c.png"}
        assert annotated(db, ["none", "ds"]) == annotated(db, "ds")
        assert annotated(db, "none") == set()

    def test_the_database_may_be_an_older_one(self):
        class Older(dict):
            """A fake of Database before get_dataset_examples, which returned None for nothing."""

            def get_dataset(self, name):
                return self[name]

        assert annotated(Older(a=[{"image": "k", "meta": {"key": "k"}}], b=None), ["a", "b"]) == {
            "k"
        }

    def test_before_db_puts_the_reference_in_place_of_the_pixels(self, blob, fake):
        shown, _ = run(fake.blob_image_manual("ds", blob, label=["CAT"]))
        stored = prodigy_fake.connect().get_dataset_examples("ds")
        assert [row["image"] for row in stored] == [f"blob://out.tar/000{n}.png" for n in range(4)]
        assert all("data:" not in json.dumps(row) for row in stored)
        # again changes nothing, and what was passed in is as it was
        assert store_references(stored) == stored
        assert shown == [dict(task) for task in shown]
        assert shown[0]["image"].startswith("data:")
        assert store_references([{"image": "data:,x"}, {"text": "a"}]) == [
            {"image": "data:,x"},
            {"text": "a"},
        ]

    def test_rehydrate_puts_the_pixels_back_in_order(self, blob, prefix, fake):
        run(fake.blob_image_manual("ds", blob, label=["CAT"]))
        run(fake.s3_image_manual("ds", prefix, PREFIX, label=["CAT"]))
        stored = prodigy_fake.connect().get_dataset_examples("ds")
        mixed = [stored[0], stored[4], {"text": "none"}, stored[1], stored[5]]
        mixed.append({"image": "0009.png", "meta": {"key": "0009.png"}})
        before = json.dumps(mixed)
        with blobpack.open(blob) as reader:
            again = list(rehydrate(mixed, reader))
            assert list(rehydrate(again, reader)) == again
        assert json.dumps(mixed) == before
        names = ["0000.png", "0000.png", None, "0001.png", "0001.png", "0009.png"]
        assert [pixels(eg["image"]) if "image" in eg else None for eg in again] == [
            name and IMAGES[name] for name in names
        ]
        with pytest.raises(ValueError, match=r"reader must be .*0000\.png"):
            list(rehydrate(mixed))
        with blobpack.open(blob) as reader, pytest.raises(MemberNotFoundError, match=r"none\.png"):
            list(rehydrate([{"image": "blob://out.tar/none.png"}], reader))

    def test_rehydrate_reads_bare_keys_of_a_bucket(self, prefix):
        rows = [{"image": f"{PREFIX}{name}", "meta": {"key": f"{PREFIX}{name}"}} for name in IMAGES]
        again = list(rehydrate(rows, bucket=prefix))
        assert [pixels(row["image"]) for row in again] == list(IMAGES.values())


class TestRecipes:
    def test_prodigy_finds_them_by_entry_points(self):
        with (ROOT / "pyproject.toml").open("rb") as file:
            declared = tomllib.load(file)["project"]["entry-points"]
        assert sorted(declared["prodigy_recipes"]) == RECIPES
        for group in ("prodigy_recipes", "prodigy_loaders"):
            ours = {
                point.name: point.value
                for point in entry_points(group=group)
                if point.value.startswith("blobpack.")
            }
            assert ours == declared[group]
        (loader,) = (
            point for point in entry_points(group="prodigy_loaders") if point.name == "blob"
        )
        assert loader.load() is blob_loader

    def test_they_are_registered_under_these_names(self, fake):
        assert sorted(prodigy_fake.RECIPES) == RECIPES
        assert prodigy_fake.RECIPES["blob.mark"][0] is fake.blob_mark

    @pytest.mark.parametrize("name", RECIPES)
    def test_every_argument_is_described_and_its_type_can_be_evaluated(self, name, fake):
        function, arguments = prodigy_fake.RECIPES[name]
        given = inspect.signature(function).parameters
        assert arguments.keys() == given.keys()
        assert typing.get_type_hints(function).keys() == {*given, "return"}
        letters = [letter for _, _, letter, _ in arguments.values() if letter]
        assert len(letters) == len(set(letters))

    @pytest.mark.parametrize("by", ["entry points", "-F"])
    def test_from_the_command_line(self, by, blob, tmp_path):
        import blobpack.integrations.prodigy.components as components

        file = ["-F", str(Path(components.__file__).with_name("recipes.py"))] if by == "-F" else []
        (tmp_path / "pick.py").write_text(
            "def pick(member):\n    return member.name > '0001.png'\n"
        )
        (tmp_path / "labels.txt").write_text("CAT\nDOG\n")
        line = f"blob.image.manual ds {blob} --label labels.txt --glob 000*.png -w pick.py:pick"
        done = subprocess.run(
            [sys.executable, FAKE, *line.split(), *file],
            cwd=tmp_path,
            env=os.environ | prodigy_fake.environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed = json.loads(done.stdout)
        assert keys(printed["shown"]) == [f"000{number}.png" for number in range(2, 6)]
        assert (printed["view_id"], printed["progress"]) == ("image_manual", 0.5)

    def test_how_many_images_are_chosen_is_printed(self, blob, fake, capsys):
        for globs, said in (("000[0-3]*", "4 images chosen"), ("birds/*", "0 images chosen")):
            made = fake.blob_mark("ds", blob, glob=globs)
            made["on_exit"](None)
            assert capsys.readouterr().err == f"blobpack: {said}, 0 annotated before\n"

    def test_a_function_that_the_file_has_not_is_named(self, fake, tmp_path):
        import blobpack.integrations.prodigy.recipes as recipes

        (tmp_path / "pick.py").write_text("def pick(member):\n    return True\n")
        assert recipes.to_function(f"{tmp_path}/pick.py:pick")(None)
        with pytest.raises(ValueError, match=r"pick\.py has no function 'choose'"):
            recipes.to_function(f"{tmp_path}/pick.py:choose")

    def test_the_recipe_that_the_guide_shows_runs_from_a_file(self, tmp_path):
        guide = (ROOT / "docs" / "guides" / "prodigy.md").read_text()
        (shown,) = (code for code in re.findall(r"```python\n(.*?)```", guide, re.S) if "@" in code)
        (tmp_path / "sharp.py").write_text(shown)
        wide = {f"{number}.png": png(number, (100 + 40 * number, 8)) for number in range(3)}
        blobpack.pack(wide | {"small.png": png(9)}, tmp_path / "out.tar")
        line = re.search(r"`prodigy (sharp.images .*?)`", guide)[1].split()
        for left, progress in ((2, 2 / 3), (1, 1.0)):
            done = subprocess.run(
                [sys.executable, FAKE, *line],
                cwd=tmp_path,
                env=os.environ | prodigy_fake.environment(tmp_path) | {"PRODIGY_FAKE_ANSWERS": "2"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            printed = json.loads(done.stdout)
            assert (len(printed["shown"]), printed["progress"]) == (left, progress)
            assert {task["label"] for task in printed["shown"]} == {"SHARP"}

    def test_the_fake_is_only_where_a_test_puts_it(self):
        assert "prodigy" not in sys.modules

    def test_components_of_image_manual(self, blob, fake):
        made = fake.blob_image_manual("ds", blob, label="CAT, DOG", width=700, darken=True)
        assert made.keys() <= prodigy_fake.COMPONENTS
        assert (made["dataset"], made["view_id"]) == ("ds", "image_manual")
        assert made["config"] == {
            "labels": ["CAT", "DOG"],
            "darken_image": 0.3,
            "custom_theme": {"cardMaxWidth": 700},
            "exclude_by": "input",
            "auto_count_stream": False,
            "total_examples_target": 10,
        }
        made["on_exit"](None)
        with pytest.raises(ValueError, match="label"):
            fake.blob_image_manual("ds", blob)

    def test_classify_asks_for_one_of_several_labels_or_yes_and_no(self, blob, fake):
        several = fake.blob_image_classify("ds", blob, label=["CAT", "DOG"], exclusive=True)
        assert several["view_id"] == "choice"
        assert several["config"]["choice_style"] == "single"
        task = run(several, 1)[0][0]
        assert task["options"] == [{"id": "CAT", "text": "CAT"}, {"id": "DOG", "text": "DOG"}]
        many = fake.blob_image_classify("ds", blob, label=["CAT", "DOG"])
        assert many["config"]["choice_style"] == "multiple"
        one = fake.blob_image_classify("one", blob, label=["CAT"])
        assert (one["view_id"], run(one, 1)[0][0]["label"]) == ("classification", "CAT")

    def test_mark_shows_images_as_they_are(self, blob, fake):
        assert fake.blob_mark("ds", blob)["view_id"] == "image"
        assert fake.blob_mark("ds", blob, view_id="image_manual")["view_id"] == "image_manual"
        labelled = fake.blob_mark("ds", blob, label=["CAT"])
        assert (labelled["view_id"], run(labelled, 1)[0][0]["label"]) == ("classification", "CAT")

    def test_a_collection_is_a_source_too(self, tmp_path, fake):
        blobpack.pack_shards(IMAGES, tmp_path / "shards", shard_bytes=4096)
        shown, _ = run(fake.blob_image_manual("ds", tmp_path / "shards", label=["CAT"]), 10)
        assert keys(shown) == list(IMAGES)
        assert len({task["path"].split("/")[2] for task in shown}) > 1
        assert run(fake.blob_image_manual("ds", tmp_path / "shards", label=["CAT"]))[0] == []

    def test_images_of_excluded_datasets_are_not_shown(self, blob, fake):
        shown, _ = run(fake.blob_mark("first", blob))
        made = fake.blob_mark("second", blob, exclude=["first"])
        assert made["exclude"] == ["first"]
        assert not set(keys(run(made, 10)[0])) & set(keys(shown))

    def test_progress_and_what_is_left_over_three_sessions(self, blob, fake):
        sessions = [run(fake.blob_image_manual("ds", blob, label=["CAT"])) for _ in range(3)]
        assert [progress for _, progress in sessions] == [0.4, 0.8, 1.0]
        assert [len(shown) for shown, _ in sessions] == [4, 4, 2]
        assert [key for shown, _ in sessions for key in keys(shown)] == list(IMAGES)

    def test_an_empty_selection_is_done(self, blob, fake):
        assert run(fake.blob_mark("ds", blob, glob="none*")) == ([], 1.0)


class TestFetches:
    def test_neighbours_come_by_one_request(self, s3_blob, faults):
        with blobpack.open(s3_blob) as reader:
            before = len(faults.requests)
            stream = tasks(reader)
            assert len(list(stream)) == 10
            # eight and two
            assert len(faults.requests) == before + 2

    def test_what_is_read_ahead_is_bounded(self, s3_blob, faults):
        with blobpack.open(s3_blob) as reader:
            before = len(faults.requests)
            stream = tasks(reader, read_ahead=2)
            next(stream)
            stream.close()
            # the image that is shown, and two ahead of it
            assert len(faults.requests) <= before + 3

    def test_the_next_images_are_read_while_one_is_shown(self, s3_blob, faults):
        with blobpack.open(s3_blob) as reader:
            before = len(faults.requests)
            stream = tasks(reader, read_ahead=2)
            next(stream)
            deadline = time.monotonic() + 10
            while len(faults.requests) < before + 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert len(faults.requests) == before + 3
            stream.close()

    def test_an_annotated_image_is_never_fetched(self, s3_blob, faults, fake):
        def some(shown):
            return [task for task in shown if keys([task])[0] not in ("0001.png", "0005.png")]

        def session():
            del faults.requests[:]
            return run(fake.blob_image_manual("ds", s3_blob, label=["CAT"]), 4, some)[0]

        with blobpack.open(s3_blob) as reader:
            ranges = {
                member.name: (member.offset_start, member.offset_end) for member in reader.index
            }
        shown = keys(session())
        assert shown == ["0000.png", "0001.png", "0002.png", "0003.png"]
        done = [ranges[name] for name in shown if name != "0001.png"]
        # what was shown and not answered comes again
        assert keys(session()) == ["0001.png", "0004.png", "0005.png", "0006.png"]
        sent = [
            re.fullmatch(r"bytes=(\d+)-(\d+)", request.range or "") for request in faults.requests
        ]
        fetched = [(int(found[1]), int(found[2]) + 1) for found in sent if found]
        assert fetched
        for start, end in fetched:
            assert all(end <= first or last <= start for first, last in done)

    def test_rows_of_the_documents_recipe_count(self, blob, s3_blob, faults, fake):
        rows = [{"image": name, "meta": {"key": name}, "answer": "accept"} for name in IMAGES]
        stored = [prodigy_fake.set_hashes(row) for row in rows[:7]]
        prodigy_fake.connect().add_examples(stored, ["ds"])
        shown, progress = run(fake.blob_image_manual("ds", s3_blob, label=["CAT"]), 10)
        assert keys(shown) == ["0007.png", "0008.png", "0009.png"]
        assert progress == 1.0


class TestS3:
    def session(self, fake, bucket, faults=None, answers=4, pick=lambda shown: shown, **options):
        if faults is not None:
            del faults.requests[:]
        made = fake.s3_image_manual("ds", bucket, PREFIX, label=["CAT"], **options)
        # the listing goes on in a thread; the progress is known when it has ended
        while made["stream"].total is None:
            time.sleep(0.001)
        shown, progress = run(made, answers, pick)
        return keys(shown), progress

    def test_tasks_of_objects(self, prefix):
        stream = object_tasks(f"s3://{prefix}", PREFIX)
        found = list(stream)
        assert keys(found) == [PREFIX + name for name in IMAGES]
        assert [pixels(task["image"]) for task in found] == list(IMAGES.values())
        assert found[0]["path"] == f"s3://{prefix}/{PREFIX}0000.png"
        assert (stream.total, stream.annotated) == (10, 0)
        assert stream.stats.requests == 11

    def test_three_sessions_fetch_each_image_once_and_list_on_from_the_last_key(
        self, prefix, faults, fake
    ):
        sessions, fetched, listed = [], [], []
        for _ in range(3):
            sessions.append(self.session(fake, prefix, faults))
            fetched.append(gets(faults.requests))
            listed.append(lists(faults.requests))
        assert [progress for _, progress in sessions] == [0.4, 0.8, 1.0]
        assert [key for shown, _ in sessions for key in shown] == [PREFIX + name for name in IMAGES]
        assert listed == [[""], [f"{PREFIX}0009.png"], [f"{PREFIX}0009.png"]]
        for number, shown in enumerate(fetched):
            done = {key for session, _ in sessions[:number] for key in session}
            assert not done & set(shown)

    def test_images_before_the_newest_annotated_key_are_not_lost(self, prefix, faults, fake):
        """The newest annotated key is the wrong place to go on from: answers come out of order."""
        self.session(fake, prefix, answers=10, pick=lambda shown: [shown[8], shown[2]])
        left, _ = self.session(fake, prefix, faults, answers=10)
        assert left == [PREFIX + name for name in IMAGES if name not in ("0002.png", "0008.png")]
        assert lists(faults.requests) == [f"{PREFIX}0009.png"]

    def test_rows_of_the_documents_recipe_count(self, prefix, faults, fake):
        rows = [{"image": PREFIX + name, "meta": {"key": PREFIX + name}} for name in [*IMAGES][:7]]
        prodigy_fake.connect().add_examples(map(prodigy_fake.set_hashes, rows), ["ds"])
        shown, _ = self.session(fake, prefix, faults, answers=10)
        assert shown == [PREFIX + name for name in [*IMAGES][7:]]
        assert sorted(gets(faults.requests)) == shown

    def test_a_later_session_takes_fewer_requests_than_by_the_documents_recipe(
        self, prefix, small_pages, faults, fake
    ):
        self.session(fake, prefix, answers=8)
        shown, _ = self.session(fake, prefix, faults)
        ours = lists(faults.requests), sorted(gets(faults.requests))
        assert shown == ours[1] == [f"{PREFIX}0008.png", f"{PREFIX}0009.png"]
        del faults.requests[:]
        done = [PREFIX + name for name in [*IMAGES][:8]]
        assert keys(documents_stream(prefix, PREFIX, done, PageSize=3)) == shown
        assert len(ours[0]) == 1
        assert len([1 for request in faults.requests if "list-type" not in request.path]) == 4 + 2

    def test_new_objects_behind_the_last_key_are_found_and_all_with_relist(
        self, prefix, s3_env, fake, capsys
    ):
        self.session(fake, prefix, answers=10)
        assert capsys.readouterr().err == ""
        s3_env.put(prefix, f"{PREFIX}0003b.png", png(30))
        s3_env.put(prefix, f"{PREFIX}0020.png", png(20))
        assert self.session(fake, prefix)[0] == [f"{PREFIX}0020.png"]
        assert f"11 keys of s3://{prefix}/{PREFIX} were listed before" in capsys.readouterr().err
        assert self.session(fake, prefix, relist=True)[0] == [f"{PREFIX}0003b.png"]
        assert self.session(fake, prefix)[0] == []

    def test_a_listing_of_several_pages_that_was_cut_goes_on_at_its_last_key(
        self, prefix, small_pages, faults, tmp_path
    ):
        path = tmp_path / "listing.jsonl"
        pages = KeptListing(Bucket(prefix), PREFIX, path).pages()
        assert [len(page) for page in islice(pages, 2)] == [3, 3]
        with path.open("a") as file:
            file.write('[["imgs/0005.p')  # killed while it wrote
        del faults.requests[:]
        again = KeptListing(Bucket(prefix), PREFIX, path)
        assert again.kept == 6
        found = [listed.key for page in again.pages() for listed in page]
        assert found == [PREFIX, *(PREFIX + name for name in IMAGES)]
        assert lists(faults.requests)[0] == f"{PREFIX}0004.png"
        assert KeptListing(Bucket(prefix), PREFIX, path).kept == 11

    def test_two_sessions_that_list_at_once_keep_one_listing(self, prefix, tmp_path):
        path = tmp_path / "listing.jsonl"
        first, second = (KeptListing(Bucket(prefix), PREFIX, path) for _ in range(2))
        for pages in (first.pages(), second.pages()):
            assert sum(map(len, pages)) == 11
        assert KeptListing(Bucket(prefix), PREFIX, path).kept == 11

    def test_the_listing_of_another_prefix_is_refused(self, prefix, tmp_path):
        path = tmp_path / "listing.jsonl"
        KeptListing(Bucket(prefix), PREFIX, path)
        with pytest.raises(FormatError, match="is not the listing of"):
            object_tasks(prefix, "other/", listing=path)
        path.write_text("no listing\n")
        with pytest.raises(FormatError, match="not the listing"):
            object_tasks(prefix, PREFIX, listing=path)
        with pytest.raises(StorageError, match="name another file"):
            object_tasks(prefix, PREFIX, listing=tmp_path)

    def test_a_missing_bucket_is_an_error_where_tasks_are_asked_for(self, s3_env, tmp_path):
        stream = object_tasks("no-such-bucket", listing=tmp_path / "listing")
        with pytest.raises(BlobNotFoundError, match="no-such-bucket"):
            next(stream)
        assert stream.total is None

    def test_what_is_no_image_gone_or_changed_since_it_was_listed(self, prefix, s3_env, tmp_path):
        s3_env.put(prefix, f"{PREFIX}index.json", b"{}")
        s3_env.put(prefix, f"{PREFIX}0009z.png", b"no image")
        path = tmp_path / "listing"
        assert len(list(object_tasks(prefix, PREFIX, listing=path))) == 10
        s3_env.delete(prefix, f"{PREFIX}0001.png")
        s3_env.put(prefix, f"{PREFIX}0002.png", png(2000, (50, 60)))
        stream = object_tasks(prefix, PREFIX, listing=path)
        found = {task["meta"]["key"]: pixels(task["image"]) for task in stream}
        assert f"{PREFIX}0001.png" not in found
        assert found[f"{PREFIX}0002.png"] == png(2000, (50, 60))
        assert stream.total == len(found) == 9

    def test_globs_predicates_order_and_urls(self, prefix, faults, tmp_path):
        def stream(**options):
            return object_tasks(prefix, PREFIX, listing=tmp_path / "listing", **options)

        assert keys(stream(globs="*000[1-3]*", where=lambda member: "2" not in member.name)) == [
            f"{PREFIX}0001.png",
            f"{PREFIX}0003.png",
        ]
        shuffled = keys(stream(shuffle=5))
        assert sorted(shuffled) == [PREFIX + name for name in IMAGES] != shuffled
        assert keys(stream(shuffle=5, skip={shuffled[0]})) == shuffled[1:]
        del faults.requests[:]
        found = list(stream(url="https://images.example.org"))
        assert gets(faults.requests) == []
        assert found[3]["image"] == f"https://images.example.org/{PREFIX}0003.png"

    def test_a_stream_that_is_closed_lists_no_more(self, prefix, tmp_path):
        stream = object_tasks(prefix, PREFIX, listing=tmp_path / "listing")
        next(stream)
        stream.close()
        stream.close()
        assert list(stream) == []


@pytest.mark.skipif(
    importlib.util.find_spec("prodigy") is None, reason="needs a licence of Prodigy, and Prodigy"
)
def test_a_licensed_prodigy_runs_the_recipes(blob, tmp_path, monkeypatch):
    """Opt-in: install Prodigy from its own index into .venv."""
    monkeypatch.setenv("PRODIGY_HOME", str(tmp_path))
    import prodigy
    from prodigy.components.db import connect
    from prodigy.core import Controller

    recipe = prodigy.get_recipe("blob.image.manual")
    assert recipe is not None
    for expected in (["0000.png", "0001.png"], ["0002.png", "0003.png"]):
        made = recipe("blobpack-test", str(blob), label=["CAT"])
        controller = Controller.from_components("blob.image.manual", made)
        shown = list(islice(iter(controller.get_questions()), 2))
        assert keys(shown) == expected
        controller.receive_answers([task | {"answer": "accept"} for task in shown])
        controller.save()
    stored = connect().get_dataset_examples("blobpack-test")
    assert [row["image"] for row in stored][:1] == ["blob://out.tar/0000.png"]
