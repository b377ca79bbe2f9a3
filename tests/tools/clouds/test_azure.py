"""The life cycle of blobs on Azurite, Microsoft's emulator of Azure Blob Storage: az:// and abfs:// URLs."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cloudservers
import obstore
import pytest
from lifecycle import STEPS, members, run
from test_stores import DATA, StoreContract

import blobpack
from blobpack.errors import BlobChangedError, StorageError
from blobpack.stores.clouds.client import forget_clients
from blobpack.stores.clouds.store import CloudStore
from blobpack.stores.clouds.upload import uploading
from blobpack.stores.open import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cloudservers import Azurite

    from blobpack.stores.base import Store

PROGRAM = Path(sys.prefix) / "node_modules" / ".bin" / "azurite-blob"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with cloudservers.serving_azurite(PROGRAM, tmp_path_factory.mktemp("azurite")) as azurite:
        yield azurite


@pytest.fixture
def azure(server: Azurite, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azurite]:
    for name in os.environ:
        if name.startswith("AZURE_"):
            monkeypatch.delenv(name)
    for name, value in server.settings().items():
        monkeypatch.setenv(name, value)
    forget_clients()
    yield server
    forget_clients()


# only an upload to S3 can be resumed
@pytest.mark.parametrize("step", [step for step in STEPS if step != "resume"])
def test_a_step_of_the_life_cycle_works(
    step: str, azure: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(step, azure, tmp_path, monkeypatch) == ""


class TestAzureStore(StoreContract):
    @pytest.fixture
    def make_store(self, azure: Azurite) -> Callable[[bytes], Store]:
        return lambda data: open_store(azure.put(azure.new_bucket(), "a.tar", data))

    def test_fork_reads_on_while_its_parent_does(self, store: Store) -> None:
        """obstore can't; tests/test_cloud_stores.py has the refusal."""

    def test_the_last_bytes_come_by_a_request_of_their_own(self, azure: Azurite) -> None:
        store = CloudStore(azure.put(azure.new_bucket(), "a.tar", DATA), tail_bytes=1000)
        assert (store.tail, store.stats.requests) == (DATA[-1000:], 2)


def test_a_new_object_is_made_in_one_step(azure: Azurite) -> None:
    bucket = azure.new_bucket()
    url = azure.url(bucket, "out")

    def overtake() -> None:
        azure.put(bucket, "out", b"first")

    with (
        pytest.raises(BlobChangedError, match="exists already"),
        uploading(url, new=True, ready=overtake) as upload,
    ):
        upload.write(b"second")
    version = CloudStore(url).version

    def change() -> None:
        azure.put(bucket, "out", b"third")

    with (
        pytest.raises(BlobChangedError, match="changed meanwhile"),
        uploading(url, replaces=version) as upload,
    ):
        upload.write(b"fourth")
        change()
    assert azure.stored(bucket, "out") == b"third"


def test_what_is_given_up_in_parts_never_appears(azure: Azurite) -> None:
    bucket = azure.new_bucket()
    size = 20 << 20
    with (
        pytest.raises(KeyboardInterrupt),
        uploading(azure.url(bucket, "out"), expected_bytes=size) as upload,
    ):
        upload.write(bytes(size))
        raise KeyboardInterrupt
    assert azure.keys(bucket) == []


def test_content_type_and_metadata_are_kept_by_append(azure: Azurite) -> None:
    bucket = azure.new_bucket()
    url = azure.url(bucket, "out.tar")
    options = blobpack.S3Options(metadata={"made": "here"})
    blobpack.pack({"a.jpg": b"a"}, url, all_files=True, s3=options)
    blobpack.append(url, [("b.jpg", b"b")], all_files=True)
    found = obstore.get(azure.store_of(bucket), "out.tar").attributes
    assert dict(found) == {"Content-Type": "application/x-tar", "made": "here"}


def test_the_variables_of_the_azure_cli_name_the_account(
    azure: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = azure.put(azure.new_bucket(), "a.tar", DATA)
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", cloudservers.AZURITE_ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_KEY", cloudservers.AZURITE_KEY)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{azure.endpoint}/{cloudservers.AZURITE_ACCOUNT}")
    forget_clients()
    assert open_store(url).read_range(5, 50) == DATA[5:50]


@pytest.mark.parametrize("scheme", ["azure", "abfs", "adl"])
def test_other_schemes_mean_the_same_containers(scheme: str, azure: Azurite) -> None:
    bucket = azure.new_bucket()
    azure.put(bucket, "a.tar", DATA)
    assert open_store(f"{scheme}://{bucket}/a.tar").read_range(5, 50) == DATA[5:50]


def test_a_pickled_blob_holds_no_key(azure: Azurite, tmp_path: Path) -> None:
    url = azure.url(azure.new_bucket(), "out.tar")
    blobpack.pack(members().items(), url, all_files=True)
    with blobpack.open_blob(url) as blob:
        pickled = pickle.dumps(blob)
    assert cloudservers.AZURITE_KEY.encode() not in pickled
    with pickle.loads(pickled) as blob:
        assert dict(blob.items()) == members()


def test_what_the_server_says_is_in_the_message(
    azure: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = azure.put(azure.new_bucket(), "a.tar", DATA)
    store = open_store(url)
    azure.lose_key(monkeypatch)
    again = CloudStore(url, size=store.size, version=store.version)
    with pytest.raises(
        StorageError, match="HTTP 403, AuthorizationFailure: Server failed"
    ) as found:
        again.read_range(0, 5)
    assert found.value.status == 403
    assert "\n" not in str(found.value)
