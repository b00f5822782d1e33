"""The loop on the command line and over REST."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from generation_shop import open_models
from live import live_server
from sameitem.core.jobs import run_jobs
from sameitem.upkeep.loop_report import read_report
from sameitem.upkeep.work import work_of

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A shop that sells nothing yet: its loops have nothing to do."""
    shop = open_models(tmp_path / "shop")
    shop.close()
    return tmp_path / "shop"


def sameitem(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SAMEITEM_MODEL__ACTIVE": "base-2"}
    command = [sys.executable, "-m", "sameitem", "--shop", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def test_the_command_says_what_it_did_and_why_it_published_nothing(folder: Path) -> None:
    done = sameitem(folder, "loop", "--json")
    result = json.loads(done.stdout)
    assert (done.returncode, result["published"], result["embedding"]) == (0, False, None)
    assert result["reason"].startswith("no new model: 0 searches were clicked since the last training")
    assert [step["name"] for step in result["steps"]] == ["retention", "counts", "catalogue", "mine", "ranker"]
    assert Path(result["report"]).is_file()
    told = sameitem(folder, "loop").stdout
    assert "Nothing published: no new model" in told
    assert "nothing to do" in told


def test_the_interface_starts_loops_lists_them_and_shows_their_pages(folder: Path) -> None:
    shop = open_models(folder)
    with live_server(shop) as client:
        assert client("GET", "/v1/loops").json["loops"] == []
        queued = client("POST", "/v1/loops:run")
        assert (queued.status, queued.json["kind"], queued.json["state"]) == (202, "loop", "queued")
        assert client("POST", "/v1/loops:run").json["id"] == queued.json["id"]
        run_jobs(shop.jobs, work_of(shop))
        client("POST", "/v1/loops:run")
        run_jobs(shop.jobs, work_of(shop))
        newest, oldest = client("GET", "/v1/loops").json["loops"]
        assert newest["id"] > oldest["id"]
        assert [one["id"] for one in client("GET", "/v1/loops?num=1").json["loops"]] == [newest["id"]]
        found = client("GET", f"/v1/loops/{oldest['id']}").json
        report = json.loads(json.dumps(read_report(folder, oldest["id"]).as_json()))
        assert {name: found[name] for name in report} == report
        assert oldest["reason"] == report["reason"]
        page = client("GET", oldest["report"])
        assert page.headers["Content-Type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert oldest["id"].encode() in page.body
        for path in ("/v1/loops/20260101-000000-0000", "/v1/loops/..%2F..", "/v1/loops/none/report"):
            assert client("GET", path).status == 404, path
    shop.close()
