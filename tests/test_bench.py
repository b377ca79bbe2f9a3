"""Each row of scripts/bench runs once here, on the smallest data: it makes a figure, or names a reason why it cannot.

Nothing is said of the times. What is missing on a developer's machine is 840 MB of Supervisely's SDK, and the other
clients of S3; scripts/bench installs them when it is asked to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"
SKIPPED_FOR = (
    "lmdb is not installed: scripts/bench installs it",
    "the Supervisely SDK is not installed: scripts/bench --sdk installs it",
    "a second thread has nothing to gain on (c)",
)
NOT_MEASURED_FOR = (
    "obstore is not in .venv-obstore; scripts/bench s3 installs it",
    "s3fs is not in .venv-s3fs; scripts/bench s3 installs it",
    "nginx with Lua is missing. On Debian: apt-get install",
)


def run(*command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program of the bench, without what steers this run of pytest."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=kept | env, capture_output=True, text=True
    )


def run_local(folder: Path) -> tuple[dict[str, ElementTree.Element], Path, str]:
    """Run the benches that pytest runs: each row by its file and parameters, the file of figures, what was printed."""
    report, figures = folder / "report.xml", folder / "run.json"
    done = run(
        *("-m", "pytest", "-c", BENCH / "pytest.ini", BENCH, "--tiny", "-q", "--benchmark-quiet"),
        *(f"--benchmark-json={figures}", f"--junitxml={report}"),
        BLOBPACK_BENCH_DIR=str(folder),
    )
    assert figures.exists(), f"the benches made no figures: {done.stdout}{done.stderr}"
    rows = {
        f"{case.get('classname', '').rpartition('.')[2]}.py::{case.get('name')}": case
        for case in ElementTree.parse(report).iter("testcase")
    }
    return rows, figures, done.stdout


# One test, so that the rows run once however many workers pytest has
def test_every_row_makes_a_figure_or_names_a_reason(tmp_path: Path) -> None:
    rows, run_json, output = run_local(tmp_path)
    figures = {
        figure["fullname"].rpartition("/")[2]: figure
        for figure in json.loads(run_json.read_text())["benchmarks"]
    }

    failed = [
        name for name, row in rows.items() if {part.tag for part in row} & {"failure", "error"}
    ]
    assert not failed, output

    skipped = {
        name: row.find("skipped").get("message")
        for name, row in rows.items()
        if row.find("skipped") is not None
    }
    assert {name: why for name, why in skipped.items() if not why.startswith(SKIPPED_FOR)} == {}
    print(f"{len(skipped)} of {len(rows)} rows are not measured: {sorted(set(skipped.values()))}")

    assert rows.keys() - skipped.keys() == figures.keys()
    assert all(figure["stats"]["median"] > 0 for figure in figures.values())
    files = {path.name for path in BENCH.glob("bench_*.py")} - {"bench_s3.py", "bench_serve.py"}
    assert {name.partition("::")[0] for name in figures} == files

    the_table_shows(run_json, {(f["group"], f["extra_info"]["system"]) for f in figures.values()})


def the_table_shows(run_json: Path, systems: set[tuple[str, str]]) -> None:
    """Assert that a table of a run shows each task and system, and keeps them."""
    kept = run_json.with_name("rows.json")
    printed = run(BENCH / "table.py", run_json, kept)
    assert printed.returncode == 0, printed.stderr
    rows = json.loads(kept.read_text())
    ours = {(row["task"], "blobpack") for row in rows if row["ours_us"] is not None}
    assert ours | {(row["task"], row["other"]) for row in rows if row["other"]} == systems
    assert all(task in printed.stdout for task, _ in systems)


def test_every_row_in_s3_makes_a_figure_or_lacks_a_server_or_client(tmp_path: Path) -> None:
    kept = tmp_path / "rows.json"
    done = run(BENCH / "bench_s3.py", "--tiny", "--json", kept)
    assert done.returncode == 0, done.stderr
    rows = json.loads(kept.read_text())
    absent = [row["not measured"] for row in rows if "not measured" in row]
    assert [why for why in absent if not why.startswith(NOT_MEASURED_FOR)] == []
    assert all(row["wrong"] == 0 and row["lost"] == 0 for row in rows if "lost" in row)
    assert {row["measurement"] for row in rows} == {
        "cpu", "batches", "flight", "objects", "hedging", "faults",
    }  # fmt: skip
    print(f"{len(absent)} of {len(rows)} rows are not measured: {sorted(set(absent))}")


def test_the_comparison_measures_what_needs_no_other_package(tmp_path: Path) -> None:
    systems = ["blobpack", "zip", "tar", "files"]
    kept = tmp_path / "figures.json"
    done = run(
        *(BENCH / "compare.py", "--images", "50", "--rounds", "1", "--json", kept, *systems),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(kept.read_text())
    assert list(found["here"]) == systems
    for figures in found["here"].values():
        assert not figures["errors"]
        for name in (
            "write_us",
            "disk_bytes",
            "first_ms",
            "again_ms",
            "read_us",
            "all_us",
            "append_ms",
        ):
            assert len(figures[name]) == 1, name
    assert {name for name, figures in found["here"].items() if figures["is_tar"]} == {
        "blobpack",
        "tar",
    }
    asked = {row[0]: row[1:] for row in found["asked"]}
    assert list(asked) == ["blobpack", "zip, remotezip", "tar", "S3 objects"]
    if asked.pop("zip, remotezip") == [
        "not installed; scripts/bench compare installs it into .venv-compare"
    ]:
        print("1 row is not measured: remotezip is not installed")
    requests = {name: (first[0], another[0]) for name, (first, another) in asked.items()}
    assert requests == {
        "blobpack": (2, 1),  # the index, and one ranged GET
        "tar": (1, 1),
        "S3 objects": (1, 1),
    }
    assert all(system in done.stdout for system in systems)


def test_the_bench_of_decoding_measures_every_system(tmp_path: Path) -> None:
    kept = tmp_path / "figures.json"
    done = run(BENCH / "decoding.py", "--images", "3", "--rounds", "1", "--json", kept)
    assert done.returncode == 0, done.stderr
    found = json.loads(kept.read_text())
    assert list(found) == ["64", "128", "224", "512"]
    # the DataLoader is measured only where there is PyTorch
    systems = {
        "blobpack",
        "blobpack, out=",
        "blobpack, 1 processor",
        "simplejpeg alone",
        "Pillow alone",
    }
    assert all(systems <= figures.keys() for figures in found.values())
    assert {"blobpack, size=", "Pillow, draft and resize"} <= found["512"].keys()
    assert all(system in done.stdout for system in systems)


ROW = {
    "task": "scan", "unit": "member", "ours_us": 1.0, "other": "cat", "other_us": 2.0, "ratio": 0.5,
}  # fmt: skip


class TestRatio:
    def ratio(self, folder: Path, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Any:
        paths = []
        for side, runs in (("before", before), ("after", after)):
            paths.append([folder / f"{side}{i}.json" for i in range(len(runs))])
            for path, row in zip(paths[-1], runs, strict=True):
                path.write_text(json.dumps([row]))
        return run(BENCH / "ratio.py", *paths[0], "--", *paths[1])

    def test_it_takes_the_median_of_the_runs(self, tmp_path: Path) -> None:
        before = [ROW | {"ours_us": us} for us in (1.0, 1.0, 9.0)]
        after = [ROW | {"ours_us": us} for us in (0.2, 1.04, 1.04)]
        done = self.ratio(tmp_path, before, after)
        assert done.returncode == 0
        assert "1.040" in done.stdout
        assert "0 of 1 rows of blobpack outside 0.95 to 1.05" in done.stdout

    def test_a_row_outside_is_named(self, tmp_path: Path) -> None:
        done = self.ratio(tmp_path, [ROW], [ROW | {"ours_us": 1.2}])
        assert done.returncode == 1
        assert done.stdout.endswith(
            "1 of 1 rows of blobpack outside 0.95 to 1.05\nscan, µs a member: 1.200\n"
        )

    def test_peers_drift_as_they_like(self, tmp_path: Path) -> None:
        assert self.ratio(tmp_path, [ROW], [ROW | {"other_us": 9.0}]).returncode == 0

    def test_a_row_of_one_side_is_named(self, tmp_path: Path) -> None:
        done = self.ratio(tmp_path, [ROW], [ROW | {"task": "scan all"}])
        assert done.returncode == 1
        assert "scan, µs a member: only before" in done.stdout
        assert "scan all, µs a member: only after" in done.stdout
