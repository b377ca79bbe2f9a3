"""Tokens: what they cover, and what a server answers with and without them."""

import datetime
import json
import string
import time
from contextlib import ExitStack
from urllib.parse import quote

import pytest
from gatewayserver import serving
from hypothesis import given, strategies as st

import blobpack
from blobpack.gateway import tokens
from blobpack.gateway.app import gateway_app
from blobpack.gateway.tokens import Access, Grant, Keys, keys_in_environment, read_keys

JPEG = b"\xff\xd8\xff\xe0" + bytes(99)
NAMES = ["cats/1.jpg", "cats/2.jpg", "cats2/1.jpg", "dogs/1.jpg", "top.jpg"]
KEYS = {"new": "secret two", "old": "secret one"}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "out.tar"
    blobpack.pack(dict.fromkeys(NAMES, JPEG), path)
    with blobpack.open(path) as blob:
        app = gateway_app({"out": blob, "other": blob}, keys=KEYS, require_token=True)
        with serving(app) as client:
            yield client


def status(client, token, path, **headers):
    return client.ask(f"/k/{token}/b/{path}", **headers).status


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        ("*", {f"{blob}/{name}" for blob in ("out", "other") for name in NAMES}),
        ("out", {f"out/{name}" for name in NAMES}),
        ("out/", {f"out/{name}" for name in NAMES}),
        ("out/cats/", {"out/cats/1.jpg", "out/cats/2.jpg"}),
        ("out/cats*", {"out/cats/1.jpg", "out/cats/2.jpg", "out/cats2/1.jpg"}),
        ("out/cats/1.jpg", {"out/cats/1.jpg"}),
        ("out/cats", set()),
        ("ou", set()),
        ("none/", set()),
    ],
)
def test_a_token_covers_its_scope_and_nothing_else(client, scope, covered):
    token = Keys(KEYS).token(scope)
    grant = Keys(KEYS).grant_of(token)
    for blob in ("out", "other"):
        for name in NAMES:
            path = f"{blob}/{name}"
            expected = 200 if path in covered else 404
            assert status(client, token, path) == expected
            assert client.ask(f"/b/{path}", Authorization=f"Bearer {token}").status == expected
            assert client.ask(f"/k/{token}/b/{path}", "HEAD").status == expected
            assert grant.covers(blob, name) == (expected == 200)


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        ("cats", {"cats/a.jpg", "cats/plain.jpg"}),
        ("cats/p*", {"cats/plain.jpg"}),
        ("cats/private", set()),
        ("cats/private/", {"cats/private/b.jpg"}),
        ("cats/private/b.jpg", {"cats/private/b.jpg"}),
        ("all", {"all/one/c.jpg", "all/two/d.jpg"}),
        ("ca*", {"cats/a.jpg", "cats/plain.jpg", "cats/private/b.jpg"}),
    ],
)
def test_a_token_of_a_blob_covers_no_blob_whose_name_begins_like_a_member(tmp_path, scope, covered):
    blobs = {
        "cats": ["a.jpg", "plain.jpg", "private/hidden by the other blob.jpg"],
        "cats/private": ["b.jpg"],
        "all/one": ["c.jpg"],
        "all/two": ["d.jpg"],
    }
    with ExitStack() as opened:
        readers = {}
        for number, (name, members) in enumerate(blobs.items()):
            blobpack.pack(dict.fromkeys(members, JPEG), tmp_path / f"{number}.tar")
            readers[name] = opened.enter_context(blobpack.open(tmp_path / f"{number}.tar"))
        app = gateway_app(readers, keys=KEYS, require_token=True)
        client = opened.enter_context(serving(app))
        token = Keys(KEYS).token(scope)
        paths = [f"{name}/{member}" for name, members in blobs.items() for member in members]
        root = f"/k/{token}"
        resolved = client.ask(
            f"{root}/api/v1/resolve", "POST", json.dumps({"refs": paths}).encode()
        )
        found = [member is not None for member in resolved.json["members"]]
        assert [path for path, is_found in zip(paths, found, strict=True) if is_found] == sorted(
            covered, key=paths.index
        )
        for path in paths:
            assert (status(client, token, quote(path)) == 200) == (path in covered)
        shown = [blob["name"] for blob in client.ask(f"{root}/api/v1/blobs").json["blobs"]]
        whole = {"cats": ["cats"], "cats/private/": ["cats/private"], "all": ["all/one", "all/two"]}
        whole["ca*"] = ["cats", "cats/private"]
        assert shown == whole.get(scope, [])
        for name in blobs:
            answer = client.ask(f"{root}/api/v1/blobs/{name}/members")
            assert (answer.status == 200) == (name in shown)
            assert (client.ask(f"{root}/raw/{name}").status == 200) == (name in shown)


def test_what_a_token_does_not_cover_looks_like_what_does_not_exist(client):
    token = Keys(KEYS).token("out/cats/")
    missing = client.ask(f"/k/{token}/b/out/cats/none.jpg")
    for target in (
        f"/k/{token}/b/out/dogs/1.jpg",
        f"/k/{token}/b/other/cats/1.jpg",
        f"/k/{token}/b/none/cats/1.jpg",
        f"/k/{token[:-1]}/b/out/cats/1.jpg",
        "/k/x/b/out/cats/1.jpg",
        "/k//b/out/cats/1.jpg",
        f"/k/{token}/raw/out",
    ):
        answer = client.ask(target)
        assert (answer.status, answer.body) == (404, missing.body)
        assert {**answer.headers, "date": ""} == {**missing.headers, "date": ""}


def test_without_a_token_everything_is_a_401(client):
    bodies = set()
    for path in ("out/cats/1.jpg", "out/none", "none/none"):
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}):
            answer = client.ask(f"/b/{path}", **headers)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            bodies.add(answer.body)
    assert len(bodies) == 1
    for target in ("/", "/metrics", "/api/v1/blobs", "/api/v1/blobs/out/members", "/raw/out"):
        assert client.ask(target).status == 401
    for target in ("/batch", "/api/v1/resolve"):
        assert client.ask(target, "POST", b"{}").status == 401
    assert client.ask("/healthz").status == 200


def test_other_routes_answer_what_the_token_covers(client):
    keys = Keys(KEYS)
    everything, cats = keys.token("*"), keys.token("out/cats/")
    assert client.ask(f"/k/{everything}/metrics").status == 200
    assert client.ask(f"/k/{cats}/metrics").status == 404
    names = [blob["name"] for blob in client.ask(f"/k/{everything}/api/v1/blobs").json["blobs"]]
    assert names == ["out", "other"]
    assert client.ask(f"/k/{cats}/api/v1/blobs").json["blobs"] == []
    assert client.ask(f"/k/{cats}/api/v1/blobs/out").status == 404
    assert client.ask(f"/k/{cats}/api/v1/blobs/out/members").status == 404
    assert client.ask(f"/k/{cats}/api/v1/blobs/out/members?prefix=cats").status == 404
    found = client.ask(f"/k/{cats}/api/v1/blobs/out/members?prefix=cats/").json["members"]
    assert [member["member"] for member in found] == ["cats/1.jpg", "cats/2.jpg"]
    # the URLs of an answer hold the token, so they can be handed on
    assert client.ask(found[0]["url"]).body == JPEG
    assert client.ask(f"/k/{everything}/raw/out", Range="bytes=0-9").body == b"cats/1.jpg"
    refs = b'{"refs": ["out/cats/1.jpg", "out/dogs/1.jpg"]}'
    found = client.ask(f"/k/{cats}/api/v1/resolve", "POST", refs).json["members"]
    assert [member and member["member"] for member in found] == ["cats/1.jpg", None]
    members = b'{"members": ["out/cats/1.jpg", "out/dogs/1.jpg"]}'
    assert client.ask(f"/k/{cats}/batch", "POST", members).status == 404


def test_tokens_are_pure_functions_of_key_scope_and_day():
    keys, day = Keys(KEYS), datetime.date(2999, 12, 31)
    assert keys.token("out/cats/") == Keys(dict(KEYS)).token("out/cats/")
    assert len({keys.token("a"), keys.token("b"), keys.token("a", expires=day)}) == 3
    assert set(keys.token("Käse/ü \udcff/", expires=day)) <= {
        *string.ascii_letters,
        *string.digits,
        *"-_.",
    }


@pytest.mark.parametrize("days", [-1, 0, 1])
def test_a_token_is_valid_to_the_end_of_its_day(client, monkeypatch, days):
    today = datetime.datetime.now(datetime.UTC).date()
    token = Keys(KEYS).token("out", expires=today + datetime.timedelta(days))
    assert status(client, token, "out/top.jpg") == (404 if days < 0 else 200)
    assert Keys(KEYS).grant_of(token) == (None if days < 0 else Grant("out/", is_prefix=True))
    end = (today.toordinal() - tokens.EPOCH_DAY + days + 1) * 86400
    monkeypatch.setattr(time, "time", lambda: end - 0.001)
    assert Keys(KEYS).grant_of(token)
    monkeypatch.setattr(time, "time", lambda: end)
    assert not Keys(KEYS).grant_of(token)


def test_a_key_that_is_removed_revokes_its_tokens():
    old, new = Keys({"old": KEYS["old"]}).token("*"), Keys(KEYS).token("*")
    assert old.split(".")[1] == "old"
    assert new.split(".")[1] == "new"
    assert Keys(KEYS).grant_of(old)
    assert not Keys({"new": KEYS["new"]}).grant_of(old)
    assert not Keys({"new": KEYS["new"], "old": "another secret"}).grant_of(old)


@given(st.data())
def test_no_other_text_is_a_token(data):
    keys = Keys(KEYS)
    token = keys.token("out/cats/", expires=datetime.date(2999, 1, 1))
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.text(string.ascii_letters + string.digits + "-_.=+/ \0é", max_size=2))
    forged = token[:at] + other + token[at + 1 :]
    assert forged == token or keys.grant_of(forged) is None
    # bits that base64 does not use give no second spelling
    for last in string.ascii_letters:
        assert token[:-1] + last == token or keys.grant_of(token[:-1] + last) is None


def test_a_signature_is_none_of_another_purpose():
    import hmac
    from base64 import urlsafe_b64encode

    text = "v1.new.Kg"
    signature = hmac.digest(b"secret two", text.encode(), "sha256")[:16]
    forged = f"{text}.{urlsafe_b64encode(signature).decode().rstrip('=')}"
    assert Keys(KEYS).grant_of(forged) is None


def test_caches_keep_what_a_header_let_in_for_its_client_alone(client):
    token = Keys(KEYS).token("*")
    answer = client.ask("/b/out/top.jpg", Authorization=f"Bearer {token}")
    assert answer.headers["cache-control"].startswith("private")
    assert client.ask(f"/k/{token}/b/out/top.jpg").headers["cache-control"].startswith("public")
    assert client.ask("/b/out/top.jpg", Authorization=f"bEaReR  {token}").status == 200


def test_names_of_any_kind_may_be_scopes(tmp_path):
    name = "Käse & co/50%\udcff.jpg"
    blobpack.pack({name: JPEG}, tmp_path / "out.tar")
    target = quote(name.encode("utf-8", "surrogateescape"))
    with blobpack.open(tmp_path / "out.tar") as blob:
        app = gateway_app({"a/b": blob}, keys=KEYS, require_token=True)
        with serving(app) as client:
            for scope in (f"a/b/{name}", "a/b/Käse*", "a/b/", "a/"):
                assert status(client, Keys(KEYS).token(scope), f"a/b/{target}") == 200
            version = app.services.blobs.get("a/b").version
            assert status(client, Keys(KEYS).token("a/b/"), f"a/b@{version}/{target}") == 200


@pytest.mark.parametrize(
    "secrets", [{"": "x"}, {"a b": "x"}, {"ä": "x"}, {"a.b": "x"}, {"a": ""}, {"a" * 129: "x"}]
)
def test_keys_have_a_form(secrets):
    with pytest.raises(ValueError, match="key"):
        Keys(secrets)


def test_tokens_need_keys():
    with pytest.raises(ValueError, match="no keys"):
        Keys({}).token("out")
    with pytest.raises(ValueError, match="without keys"):
        Access(Keys({}), require_token=True)


def test_keys_are_read_from_a_file():
    keys = read_keys("# of 2026\nnew:secret: two\n\n  old:secret one  \n")
    assert [keys.secret_of(name) for name in ("new", "old", "none")] == [
        "secret: two",
        "secret one",
        None,
    ]
    for text in ("", "# nothing\n", "new", "new:", ":x", "a b:hidden"):
        with pytest.raises(ValueError, match="ACCESS_KEY:SECRET_KEY") as refused:
            read_keys(text)
        assert "hidden" not in str(refused.value)


def test_keys_come_from_the_environment(monkeypatch):
    monkeypatch.delenv(tokens.ACCESS_KEY_VARIABLE, raising=False)
    monkeypatch.delenv(tokens.SECRET_KEY_VARIABLE, raising=False)
    assert not keys_in_environment()
    monkeypatch.setenv(tokens.ACCESS_KEY_VARIABLE, "id")
    with pytest.raises(ValueError, match="both"):
        keys_in_environment()
    monkeypatch.setenv(tokens.SECRET_KEY_VARIABLE, "secret")
    assert keys_in_environment().token("*") == Keys({"id": "secret"}).token("*")
