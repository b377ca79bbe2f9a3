"""The documentation: its site builds without a broken link, and its examples run and print what it shows."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pixano_library
import pytest
from pages import DOCS, PAGES, ROOT, Runner, blocks, rewrite, same
from supervisely_server import TOKEN, SuperviselyServer

import blobpack
from blobpack.cli.groups import all_commands
from blobpack.cli.main import main

REWRITE = "BLOBPACK_REWRITE_DOCS"  # if set, pages take the output that came, where it differs
START = DOCS / "start.md"
NOT_RUN = {
    "README.md": 1,
    "start.md": 1,
    "tables.md": 1,
    "compression.md": 1,
    "speed.md": 3,
    "comparison.md": 1,
    "s3-face.md": 3,
    "encord.md": 2,
    "export.md": 3,
    "fsspec.md": 2,
    "supervisely.md": 1,
}


def copy(folder, target):
    """Copy a folder. Images are linked, because no example writes to one in place."""

    def link_or_copy(path, to):
        (os.link if path.endswith(".jpg") else shutil.copy2)(path, to)

    shutil.copytree(folder, target, copy_function=link_or_copy, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """The images that the first example of the five-minute start makes."""
    folder = tmp_path_factory.mktemp("docs")
    here = Path.cwd()
    try:
        os.chdir(folder)
        Runner().run(next(block for block in blocks(START) if block.language == "python"))
    finally:
        os.chdir(here)
    return folder / "imgs"


@pytest.fixture
def runner(request, page, images, tmp_path, monkeypatch):
    """What runs a page's examples, in a folder with imgs/ and, where the page speaks of S3, with a bucket."""
    if page != START:
        copy(images, tmp_path / "imgs")
    monkeypatch.chdir(tmp_path)
    bucket = ""
    if any("bucket" in block.code for block in blocks(page)):
        bucket = request.getfixturevalue("s3_env").new_bucket()
    if any("gs://" in block.code for block in blocks(page)):
        request.getfixturevalue("gcs").server.buckets["images"] = {}
    if any(
        "API_TOKEN" in block.code or "supervisely upload" in block.code for block in blocks(page)
    ):
        request.getfixturevalue("supervisely")
    if any("health_images/" in block.code for block in blocks(page)):
        pixano_library.write_folder(tmp_path / "health_images")
    if any("import prodigy" in block.code for block in blocks(page)):
        request.getfixturevalue("prodigy_in_place")
    return Runner(bucket)


@pytest.fixture
def supervisely(monkeypatch):
    """A fake of Supervisely's server, and an environment in which it is used."""
    with SuperviselyServer() as server:
        monkeypatch.setenv("SERVER_ADDRESS", server.address)
        monkeypatch.setenv("API_TOKEN", TOKEN)
        yield server


@pytest.mark.parametrize(
    "page", [page for page in PAGES if list(blocks(page))], ids=lambda page: page.stem
)
def test_examples_run_and_print_what_is_shown(page, runner):
    for block in blocks(page):
        for command, shown, came in runner.run(block) if block.runs and not block.tool else ():
            if not same(shown, came) and os.environ.get(REWRITE):
                rewrite(page, command, shown, came)
            else:
                assert same(shown, came), f"{block}: {command}\nprints\n{came}\nand not\n{shown}"


def test_almost_every_example_runs():
    left_out = [block.page.name for page in PAGES for block in blocks(page) if not block.runs]
    assert {name: left_out.count(name) for name in left_out} == NOT_RUN


def test_examples_that_need_a_tool_run_in_its_environment():
    """scripts/test --tools runs them, by a test that compares what they print."""
    tools = {block.tool for page in PAGES for block in blocks(page)} - {""}
    assert "torch" in tools
    for tool in tools:
        test = (ROOT / "tests" / "tools" / tool / "test_docs.py").read_text()
        assert f'TOOL = "{tool}"' in test


def test_code_is_shown_only_in_ways_that_run_or_are_output():
    for page in PAGES:
        languages = re.findall(r"^```(\w*)", page.read_text(), re.MULTILINE)
        # tests/test_js_docs.py and tests/test_serve_docs.py run these, and tests/test_js_chromium.py sets the rule
        scripts = {"javascript": {"html", "js", "json"}, "serve": {"nginx", "ini"}}.get(
            page.stem, set()
        )
        assert {*languages} <= {"", "python", "sh", "console", "text"} | scripts, page


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site, built as scripts/docs builds it: a warning, as of a link that leads nowhere, is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_scripts_docs_builds_the_site_as_it_is_built_here():
    script = (ROOT / "scripts" / "docs").read_text()
    assert "mkdocs build --strict" in script


def test_every_link_leads_somewhere(site):
    """MkDocs checks links between pages; here also those that themes and generated sections make."""
    pages = {page: page.read_text() for page in site.rglob("*.html") if page.name != "404.html"}
    anchors = {page: {*re.findall(r'\bid="([^"]+)"', html)} for page, html in pages.items()}
    assert len(pages) > 15
    for page, html in pages.items():
        for link in re.findall(r'<a[^>]+href="([^"]+)"', html):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{page.name}: {link}"
            if anchor and target in anchors and anchor != "__skip":
                assert anchor in anchors[target], f"{page.name}: {link}"


def test_pages_load_nothing_from_another_server(site):
    for page in site.rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text()):
            assert not re.search(r'(?:src|href)="(?:https?:)?//', tag), f"{page.name}: {tag}"
    for style in site.rglob("*.css"):
        assert not re.search(r"@import|url\(\s*['\"]?(?:https?:)?//", style.read_text()), style


def test_every_command_and_option_is_described(site):
    html = (site / "cli.html").read_text()
    sections = dict(re.findall(r'<h2 id="([\w-]+)">(.*?)(?=<h2 id=|$)', html, re.DOTALL))
    for name, command in all_commands(main).items():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                for option in parameter.opts + parameter.secondary_opts:
                    assert re.search(
                        rf"(?<![\w-]){option}(?![\w-])", sections[name.replace(" ", "-")]
                    ), (
                        name,
                        option,
                    )


def test_every_public_name_is_described(site):
    html = (site / "api.html").read_text()
    for name in blobpack.__all__:
        assert f'id="blobpack.{name}"' in html, name
    text = re.sub(r"<[^>]+>", "", html)
    for field in blobpack.Member.__match_args__:
        assert re.search(rf"\b{field}\b", text), field
    assert "Read images, in the order asked" in text  # docstrings are there, and not only names


@pytest.fixture(scope="session")
def workplace(images, tmp_path_factory):
    """A folder in which the examples of the commands' help find what they name."""
    folder = tmp_path_factory.mktemp("workplace")
    copy(images, folder / "imgs")
    here = Path.cwd()
    try:
        os.chdir(folder)
        Runner().shell(
            """
            mkdir more scans && cp imgs/cats/0003.jpg more/more.jpg && cp imgs/dogs/0004.jpg scans/
            mkdir cats && cp imgs/cats/0005.jpg cats/0001.jpg && cp imgs/cats/0006.jpg cats/0002.jpg
            blobpack pack imgs/ out.tar && blobpack offsets out.tar
            blobpack subset out.tar cats.tar --filter 'cats/*'
            blobpack subset out.tar dogs.tar --filter 'dogs/*'
            tar cf foreign.tar imgs && tar czf photos.tar.gz imgs && tar cJf scans.tar.xz scans
            echo access:secret > keys.txt
            printf 'key\ncats/0001.jpg\ndogs/0002.jpg\n' > list.csv
            """
        )
    finally:
        os.chdir(here)
    return folder


def fill(bucket, client):
    """Put into a bucket what the examples name."""
    for name in ("out.tar", "foreign.tar", "scans.tar.xz"):
        client.upload_file(name, bucket, name)
    for name in ("cats/0001.jpg", "dogs/0002.jpg"):
        client.upload_file(f"imgs/{name}", bucket, f"imgs/{name}")


def served_and_ended(line):
    """Shell that starts a server, on a free port, waits until it is ready, and ends it."""
    # the log of the server before says that it is ready, too
    return f"""
        : > serve.log
        {line.replace("--s3-port 9000", "--s3-port 0")} --port 0 > serve.log 2>&1 &
        until grep -q 'serving at' serve.log; do kill -0 $! || {{ cat serve.log; exit 1; }}; sleep 0.1; done
        kill $! && wait $!
    """


@pytest.mark.parametrize("name", sorted(all_commands(main)))
def test_examples_of_the_command_line_reference_run(
    name, request, workplace, tmp_path, monkeypatch
):
    spec = spec_from_file_location("docs", ROOT / "scripts" / "docs.py")
    hooks = module_from_spec(spec)
    spec.loader.exec_module(hooks)
    examples = hooks.examples(all_commands(main)[name])
    assert examples
    copy(workplace, tmp_path)
    monkeypatch.chdir(tmp_path)
    bucket = ""
    if any("bucket" in line for line in examples):
        s3_env = request.getfixturevalue("s3_env")
        bucket = s3_env.new_bucket()
        fill(bucket, s3_env.client)
    if name.startswith("supervisely "):
        request.getfixturevalue("supervisely")
    runner = Runner(bucket)
    for place in ("shards/", "s3://bucket/train/", "s3://bucket/tars/"):
        if name != "pack" and any(place in line for line in examples):
            runner.shell(f"blobpack pack imgs/ {place} --shard-size 1Gi")
    if name in ("supervisely check", "supervisely upload", "supervisely download"):
        runner.shell("blobpack supervisely build cats.tar project/")
    if name == "supervisely download":
        runner.shell("blobpack supervisely upload project/ --workspace 12")
    if name == "encord register":
        runner.shell("blobpack encord export out.tar files/ --url https://images.example.org/b/out")
    if name == "pack":
        runner.shell(
            """echo '{"images": [{"objectUrl": "s3://bucket/imgs/cats/0001.jpg"}]}' > registration.json"""
        )
    for line in examples:
        assert line.startswith("blobpack ")
        if name == "encord register":
            # tests/tools/encord/ runs it with Encord's SDK
            line = f"if {line} 2> err; then exit 1; fi; grep 'pip install encord' err"
        line = line.replace("--server https://app.supervisely.com", "")
        if name == "pixano serve":
            # tests/tools/pixano-06 runs it with Pixano, which is not installed here
            line = f"mkdir library; cp out.tar health.tar; {line} 2>&1 | grep 'needs Pixano 0.6'"
        # a server runs until it is ended
        runner.shell(served_and_ended(line) if name == "serve" else line)
