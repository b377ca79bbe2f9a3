"""What stores, uploads and clients of other clouds promise; the clouds are a fake of Google's and fsspec's memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import cloudservers
import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from lifecycle import MIB
from obstore.store import LocalStore as ObstoreFolder, MemoryStore as ObstoreMemory
from test_stores import DATA, FORKS, StoreContract, in_fork

import blobpack
from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.access.objects import list_objects
from blobpack.stores.access.remote import Access
from blobpack.stores.clouds import client as clients
from blobpack.stores.clouds.client import Wanted, client_of, forget_clients
from blobpack.stores.clouds.fsspec_client import FsspecClient
from blobpack.stores.clouds.obstore_client import ObstoreClient
from blobpack.stores.clouds.obstore_settings import _azure_settings
from blobpack.stores.clouds.store import CloudStore
from blobpack.stores.clouds.upload import uploading
from blobpack.stores.location import Location
from blobpack.stores.open import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cloudservers import CloudServer, Gcs

    from blobpack.stores.base import Store


@pytest.fixture(params=["gs", "memory"])
def cloud(request: pytest.FixtureRequest) -> CloudServer:
    return request.getfixturevalue("gcs") if request.param == "gs" else cloudservers.Memory()


class TestGcsStore(StoreContract):
    @pytest.fixture
    def make_store(self, gcs: Gcs) -> Callable[[bytes], Store]:
        return lambda data: open_store(gcs.put(gcs.new_bucket(), "a.tar", data))

    @FORKS
    def test_fork_reads_on_while_its_parent_does(self, store: Store) -> None:
        """obstore can't, and would wait forever; a sentence says so."""
        for function in (lambda: store.read_range(0, 10), lambda: CloudStore(store.url)):
            refused = in_fork(function)
            assert isinstance(refused, StorageError)
            assert "forked" in str(refused)
        assert store.read_range(0, 10) == DATA[:10]

    def test_opening_with_a_tail_is_one_request(self, gcs: Gcs) -> None:
        url = gcs.put(gcs.new_bucket(), "a.tar", DATA)
        store = CloudStore(url, tail_bytes=1000)
        assert (store.tail, store.stats.requests) == (DATA[-1000:], 1)
        assert len(gcs.server.asked) == 1

    def test_version_is_the_etag(self, gcs: Gcs) -> None:
        bucket = gcs.new_bucket()
        store = CloudStore(gcs.put(bucket, "a.tar", DATA))
        assert store.version == gcs.server.buckets[bucket]["a.tar"].etag


class TestMemoryUrlStore(StoreContract):
    @pytest.fixture
    def make_store(self) -> Callable[[bytes], Store]:
        memory = cloudservers.Memory()
        return lambda data: open_store(memory.put(memory.new_bucket(), "a.tar", data))


@pytest.fixture(params=["memory", "folder"])
def obstore_client(request: pytest.FixtureRequest, tmp_path: Path) -> ObstoreClient:
    store = ObstoreMemory() if request.param == "memory" else ObstoreFolder(tmp_path)
    return ObstoreClient("gs://bucket/", store, lambda: store)


def test_the_clients_of_obstores_own_stores(obstore_client: ObstoreClient) -> None:
    """obstore's stores in memory and in a folder keep the contract, too."""
    version = obstore_client.put("a/b.tar", DATA, Wanted(new=True), {})
    found = obstore_client.head("a/b.tar")
    assert (found.size, found.version) == (len(DATA), version)
    assert obstore_client.read("a/b.tar", 5, 50, version) == DATA[5:50]
    assert obstore_client.read_tail("a/b.tar", 9)[1] == DATA[-9:]
    assert [each.key for each in obstore_client.list("a/")] == ["a/b.tar"]
    with pytest.raises(BlobChangedError, match="exists already"):
        obstore_client.put("a/b.tar", b"other", Wanted(new=True), {})
    obstore_client.put("a/b.tar", b"other", Wanted(), {})
    with pytest.raises(BlobChangedError, match="no longer the one that was opened"):
        obstore_client.read("a/b.tar", 0, 5, version)
    obstore_client.delete("a/b.tar")
    obstore_client.delete("a/b.tar")
    with pytest.raises(BlobNotFoundError):
        obstore_client.head("a/b.tar")


def test_a_change_is_noticed_at_the_next_read(cloud: CloudServer) -> None:
    bucket = cloud.new_bucket()
    store = CloudStore(cloud.put(bucket, "a.tar", DATA))
    pickled = pickle.dumps(store)
    cloud.put(bucket, "a.tar", DATA[::-1])
    with pytest.raises(BlobChangedError):
        store.read_range(0, 10)
    with pytest.raises(BlobChangedError, match="version is"):
        pickle.loads(pickled)


@pytest.mark.parametrize("size", [100, 17 * MIB], ids=["one request", "parts"])
def test_an_object_appears_whole_or_not_at_all(size: int, cloud: CloudServer) -> None:
    bucket = cloud.new_bucket()
    url = cloud.url(bucket, "out")
    with (
        pytest.raises(KeyboardInterrupt),
        uploading(url, expected_bytes=size) as upload,
    ):
        upload.write(bytes(size))
        raise KeyboardInterrupt
    assert cloud.keys(bucket) == []
    with uploading(url, expected_bytes=size) as upload:
        for _ in range(4):
            upload.write(bytes(size // 4))
        assert "out" not in cloud.keys(bucket)
    assert cloud.stored(bucket, "out") == bytes(size)
    assert upload.version == CloudStore(url).version
    assert cloud.keys(bucket) == ["out"]


@pytest.mark.parametrize("size", [100, 9 * MIB], ids=["one request", "parts"])
def test_conditions_hold_when_the_upload_ends(size: int, cloud: CloudServer) -> None:
    bucket = cloud.new_bucket()
    url = cloud.url(bucket, "out")
    with pytest.raises(BlobChangedError, match="exists already"), uploading(url, new=True) as new:
        new.write(bytes(size))
        cloud.put(bucket, "out", b"another process was faster")
    assert cloud.stored(bucket, "out") == b"another process was faster"
    version = CloudStore(url).version
    with uploading(url, replaces=version) as upload:
        upload.claim()
        upload.write(bytes(size))
    assert cloud.stored(bucket, "out") == bytes(size)
    with (
        pytest.raises(BlobChangedError, match="changed meanwhile"),
        uploading(url, replaces=version) as late,
    ):
        late.write(bytes(size))
    with (
        pytest.raises(BlobChangedError, match="changed meanwhile"),
        uploading(url, replaces=version) as late,
    ):
        late.claim()
    assert cloud.stored(bucket, "out") == bytes(size)
    assert cloud.keys(bucket) == ["out"]


def test_a_new_object_is_made_in_one_step(gcs: Gcs) -> None:
    """Between a look and the write nobody can come: the server itself checks the condition."""
    bucket = gcs.new_bucket()

    def overtake() -> None:
        gcs.put(bucket, "out", b"first")

    with (
        pytest.raises(BlobChangedError, match="exists already"),
        uploading(gcs.url(bucket, "out"), new=True, ready=overtake) as upload,
    ):
        upload.write(b"second")
    assert gcs.stored(bucket, "out") == b"first"


@pytest.mark.parametrize("status", [0, 500, 503])
def test_a_write_whose_answer_is_lost_is_done(gcs: Gcs, status: int) -> None:
    """The next attempt finds the object of the first one, so the condition is not met."""
    bucket = gcs.new_bucket()
    gcs.server.lost = [status]
    members = {"a.jpg": b"a" * 999}
    blobpack.pack_shards(members.items(), gcs.url(bucket, "set/"), 1 << 20, all_files=True)
    assert gcs.keys(bucket) == ["set/00000.tar", "set/collection.idx"]
    gcs.server.lost = [status]
    blobpack.append(gcs.url(bucket, "set/00000.tar"), [("b.jpg", b"b")], all_files=True)
    assert gcs.server.lost == []
    with blobpack.open(gcs.url(bucket, "set/00000.tar")) as blob:
        assert dict(blob.items()) == members | {"b.jpg": b"b"}


def test_an_equal_object_of_another_process_is_not_taken_for_the_own_one(gcs: Gcs) -> None:
    bucket = gcs.new_bucket()
    url = gcs.put(bucket, "out", b"same")
    with (
        pytest.raises(BlobChangedError, match="exists already"),
        uploading(url, new=True) as upload,
    ):
        upload.write(b"same")


def test_content_type_and_metadata(gcs: Gcs) -> None:
    bucket = gcs.new_bucket()
    url = gcs.url(bucket, "out.tar")
    options = blobpack.S3Options(metadata={"made-by": "test"})
    blobpack.pack({"a.jpg": b"a"}, url, all_files=True, s3=options)
    headers = gcs.server.buckets[bucket]["out.tar"].headers
    assert headers == {"content-type": "application/x-tar", "x-goog-meta-made-by": "test"}
    # kept by append
    blobpack.append(url, [("b.jpg", b"b")], all_files=True)
    assert gcs.server.buckets[bucket]["out.tar"].headers == headers
    options = blobpack.S3Options(content_type="application/octet-stream")
    blobpack.pack({"a.jpg": b"a"}, url, all_files=True, s3=options)
    found = gcs.server.buckets[bucket]["out.tar"].headers
    assert found == {"content-type": "application/octet-stream"}


def test_listings_compare_prefixes_as_plain_text(cloud: CloudServer) -> None:
    bucket = cloud.new_bucket()
    for number in range(120):
        cloud.put(bucket, f"train/{number:03}.tar", b"x")
    cloud.put(bucket, "train-old/1.tar", b"x")
    found = list_objects(Location.parse(cloud.url(bucket, "train/")))
    wanted = [Location.parse(cloud.url(bucket, f"train/{n:03}.tar")).key for n in range(120)]
    assert [each.key for each in found] == wanted
    found = list_objects(Location.parse(cloud.url(bucket, "train-o")))
    assert [each.key for each in found] == [
        Location.parse(cloud.url(bucket, "train-old/1.tar")).key
    ]
    # the version of a listing is the one of an open store
    assert found[0].version == CloudStore(cloud.url(bucket, "train-old/1.tar")).version


@pytest.mark.parametrize(
    "key", ["a//b.tar", "/b.tar", "a/./b.tar", "a/../b.tar", "a\\b.tar", "a\n"]
)
def test_a_key_that_obstore_does_not_know_is_refused(key: str, gcs: Gcs) -> None:
    bucket = gcs.new_bucket()
    for work in (open_store, lambda url: blobpack.pack({"a": b"a"}, url, all_files=True)):
        with pytest.raises(StorageError, match="obstore, which sends the requests, knows no key"):
            work(gcs.url(bucket, key))
    assert gcs.keys(bucket) == []


def test_a_listing_with_such_a_key_names_it_and_the_way_out(gcs: Gcs, tmp_path: Path) -> None:
    bucket = gcs.new_bucket()
    for key in ("imgs/a.jpg", "imgs//b.jpg"):
        gcs.put(bucket, key, b"x")
    with pytest.raises(blobpack.SourceError, match=r'"imgs//b.jpg".*rename that object, or pack a'):
        blobpack.pack(gcs.url(bucket, "imgs/"), tmp_path / "out.tar", all_files=True)


def test_what_the_server_says_is_in_the_message(gcs: Gcs, monkeypatch: pytest.MonkeyPatch) -> None:
    url = gcs.put(gcs.new_bucket(), "a.tar", DATA)
    with pytest.raises(BlobNotFoundError, match=r"no such bucket or key \(HTTP 404"):
        open_store(f"{url}.none")
    store = open_store(url)
    monkeypatch.setattr(gcs.server, "denied", (403, "AccessDenied"))
    with pytest.raises(
        StorageError, match="HTTP 403, AccessDenied: refused: AccessDenied"
    ) as found:
        store.read_range(0, 9)
    assert found.value.status == 403
    assert "Debug" not in str(found.value)


@pytest.mark.parametrize(
    ("package", "extra", "url"),
    [
        ("obstore", "clouds", "gs://bucket/a.tar"),
        ("obstore", "clouds", "az://container/a.tar"),
        ("fsspec", "fsspec", "ftp://host/a.tar"),
    ],
)
def test_without_the_extra_the_error_names_the_command(
    package: str, extra: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_clients()
    monkeypatch.setattr(clients, "find_spec", lambda name: None if name == package else name)
    with pytest.raises(StorageError, match=rf"pip install 'blobpack\[{extra}\]'"):
        blobpack.open_blob(url)


def test_neither_import_nor_other_blobs_load_obstore(tmp_path: Path) -> None:
    blobpack.pack({"a.jpg": b"a"}, tmp_path / "a.tar", all_files=True)
    code = (
        "import sys, blobpack\n"
        f"blobpack.open_blob({str(tmp_path / 'a.tar')!r}).read('a.jpg')\n"
        "print({'obstore', 'fsspec'} & set(sys.modules))\n"
        "blobpack.pack({'a.jpg': b'a'}, 'memory://a/b.tar', all_files=True)\n"
        "print(blobpack.open_blob('memory://a/b.tar').read('a.jpg'), {'boto3', 'obstore'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\nb'a' set()\n"


def test_no_secret_in_messages_and_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at the port; the token stands in the URL of the request."""
    token = "sv=2024&sig=SECRETSECRET"
    for name, value in {
        "AZURE_STORAGE_ACCOUNT": "account",
        "AZURE_STORAGE_SAS_TOKEN": token,
        "AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    monkeypatch.setattr("blobpack.stores.clouds.obstore_settings.RETRIES", {"max_retries": 0})
    with pytest.raises(StorageError) as found:
        open_store("az://container/a.tar")
    assert "error sending request" in str(found.value)
    assert "SECRET" not in str(found.value)
    store = CloudStore("az://container/a.tar", size=5, version='"1"')
    with pytest.raises(StorageError):
        pickle.loads(pickle.dumps(store))
    assert b"SECRET" not in pickle.dumps(store)
    forget_clients()


def test_without_credentials_the_error_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The metadata server is one of loopback that does not answer."""
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("GCE_METADATA_IP", "127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("blobpack.stores.clouds.obstore_settings.RETRIES", {"max_retries": 0})
    forget_clients()
    with pytest.raises(StorageError, match=r"no credentials were found.*anonymous=True") as found:
        open_store("gs://bucket/a.tar")
    # not 403, which could mean that there is no such object
    assert found.value.status == 0
    forget_clients()


def test_a_password_in_a_url_is_refused() -> None:
    with pytest.raises(ValueError, match="FSSPEC_FTP_PASSWORD") as found:
        Location.parse("ftp://me:SECRET@host/a.tar")
    assert "SECRET" not in str(found.value)
    assert Location.parse("sftp://me@host/a.tar").bucket == "me@host"


@pytest.mark.parametrize(
    ("url", "bucket", "key"),
    [
        ("gs://bucket/a/b?c#d", "bucket", "a/b?c#d"),
        ("GS://bucket/a", "bucket", "a"),
        ("az://container/a", "container", "a"),
        ("abfss://c@account.dfs.core.windows.net/a", "c@account.dfs.core.windows.net", "a"),
        ("memory://a/b", "", "a/b"),
        ("memory:///a/b", "", "a/b"),
        ("ftp://host:21/a/b", "host:21", "a/b"),
    ],
)
def test_urls_are_split(url: str, bucket: str, key: str) -> None:
    location = Location.parse(url)
    assert (location.kind, location.bucket, location.key) == ("cloud", bucket, key)
    assert location.at_key(key) == location or url == "memory:///a/b"
    assert pickle.loads(pickle.dumps(location)) == location


@pytest.mark.parametrize("url", ["gs://bucket", "gs:///key", "az://", "ftp://host", "memory://"])
def test_a_url_without_an_object_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=f"is not {url.partition('://')[0]}://"):
        Location.parse(url)
    if url in ("gs://bucket", "ftp://host"):
        assert Location.parse(url, prefix=True).key == ""


def test_a_file_system_without_a_rename_is_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
        """A file system of a program's own, which fsspec knows by a scheme of its own."""

        protocol = "plain"
        store: dict[str, object] = {}  # noqa: RUF012 (as in its base)

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return super()._strip_protocol(path.replace("plain://", "memory://"))

    fsspec.register_implementation("plain", Plain, clobber=True)
    file_system = fsspec.filesystem("plain")
    blob = blobpack.pack({"a.jpg": b"a"}, "memory://x/a.tar", all_files=True)
    assert blob.members == 1
    file_system.pipe_file("/host/a.tar", fsspec.filesystem("memory").cat_file("/x/a.tar"))
    assert blobpack.open_blob("plain://host/a.tar").read("a.jpg") == b"a"
    with pytest.raises(StorageError, match="Plain of fsspec has no rename"):
        blobpack.pack({"a.jpg": b"a"}, "plain://host/b.tar", all_files=True)
    assert client_of(Location.parse("plain://host/b.tar")).list("") != []


def test_a_name_of_many_bytes_is_written(tmp_path: Path) -> None:
    """The hidden file beside it has a longer name, and file systems allow 255 bytes."""
    client = FsspecClient("file:///", LocalFileSystem())
    path = tmp_path / ("日" * 83 + ".tar")
    client.put(str(path).lstrip("/"), DATA, Wanted(), {})
    assert path.read_bytes() == DATA
    assert list(tmp_path.iterdir()) == [path]


def test_connection_strings_name_account_and_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        "DefaultEndpointsProtocol=http;AccountName=me;AccountKey=a2V5==;BlobEndpoint=http://h:1/me;",
    )
    assert _azure_settings() == {
        "account_name": "me",
        "account_key": "a2V5==",
        "endpoint": "http://h:1/me",
    }


def test_public_objects_are_read_without_credentials(gcs: Gcs) -> None:
    """Anonymous requests carry no Authorization header, and no credentials are looked up."""
    url = gcs.put(gcs.new_bucket(), "a.tar", DATA)
    store = open_store(Location.parse(url, access=Access(blobpack.S3Options(anonymous=True))))
    assert store.read_range(0, 9) == DATA[:9]


def test_what_has_no_version_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = cloudservers.Memory()
    url = memory.url(memory.new_bucket(), "a.tar")
    blobpack.pack({"a.jpg": b"a"}, url, all_files=True)
    monkeypatch.setattr("blobpack.stores.clouds.fsspec_client.VERSIONS", ())
    assert open_store(url).version == ""
    with pytest.raises(StorageError, match="the server sends no ETag or version"):
        blobpack.append(url, [("b.jpg", b"b")], all_files=True)


def test_requests_that_write_are_counted(gcs: Gcs) -> None:
    before = blobpack.stats()
    with uploading(gcs.url(gcs.new_bucket(), "out"), expected_bytes=17 * MIB) as upload:
        upload.write(bytes(17 * MIB))
    after = blobpack.stats()
    sent = [method for method, _ in gcs.server.asked if method in ("PUT", "POST")]
    assert after.puts - before.puts == len(sent) == 5
    assert after.bytes_sent - before.bytes_sent == 17 * MIB
