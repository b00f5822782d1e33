"""Model generations and training on the command line, and over REST."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from generation_shop import GOOD, POOR, PRODUCTS, draw_source, fill, open_models
from live import live_server
from sameitem.apps.cli_common import run_shop_job
from sameitem.apps.terminal import Terminal
from sameitem.core.errors import NotFoundError
from sameitem.core.jobs import Job, JobTable, Work, run_jobs
from sameitem.upkeep.work import work_of
from shops import copied, run

pytestmark = pytest.mark.slow
SETTINGS = {
    "SAMEITEM_MODEL__ACTIVE": POOR,
    "SAMEITEM_GATE__LEAST_QUERIES": str(PRODUCTS),
    "SAMEITEM_SELECTION__MIN_SHARPNESS": "0",
    "SAMEITEM_INTAKE__DEADLINE_S": "60",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return draw_source(tmp_path_factory.mktemp("drawn") / "source")


@pytest.fixture(scope="module")
def built(source: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "shop"
    shop = open_models(folder)
    fill(shop, source[0])
    run(shop, "build")
    shop.close()
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """The folder of a shop whose live index is the poor model's."""
    return copied(built, tmp_path / "shop")


def sameitem(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sameitem", "--shop", str(folder), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **SETTINGS},
        timeout=300,
    )


def answer(folder: Path, *arguments: object) -> dict[str, Any]:
    done = sameitem(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    answered: dict[str, Any] = json.loads(done.stdout)
    return answered


def test_a_new_generation_is_compared_activated_and_taken_back(folder: Path, source: tuple[Path, Path]) -> None:
    compared = answer(folder, "models", "compare", POOR, GOOD, "--queries", source[1])
    assert set(compared["delta"]) == {"recall@1", "recall@10", "mrr"}
    assert compared["verdict"] == "better"
    activated = answer(folder, "models", "activate", GOOD, "--queries", source[1])
    assert (activated["version"], activated["previous"], activated["gate"]["passed"]) == (GOOD, [POOR], True)
    listed = answer(folder, "models", "list")
    assert listed["active"] == GOOD
    assert [version["version"] for version in listed["versions"]] == ["base-2", GOOD, POOR]
    refused = sameitem(folder, "models", "activate", POOR, "--queries", source[1])
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "model poor was not activated: recall@1 changes by -" in refused.stderr
    older = compared["before"]["index_version"]
    evaluated = answer(folder, "evaluate", "--queries", source[1], "--compare", older)
    assert evaluated["recall"]["1"] == evaluated["comparison"]["measures"]["recall@1"]["after"]
    assert evaluated["comparison"]["before"] == {"index_version": older, "model_version": POOR}
    back = sameitem(folder, "models", "rollback")
    assert f"Model {POOR} is active; its index {older}" in back.stdout
    assert sameitem(folder, "models", "rollback").returncode == 4


def test_what_people_read_names_the_change_and_the_way_back(folder: Path, source: tuple[Path, Path]) -> None:
    done = sameitem(folder, "models", "activate", GOOD, "--queries", source[1])
    assert done.returncode == 0, done.stderr
    assert "-> 1.000" in done.stdout
    assert "better" in done.stdout
    assert "Back to poor: `sameitem models rollback`." in done.stdout
    assert "drawn" in sameitem(folder, "models", "show", GOOD).stdout


def test_mistakes_end_in_one_line_and_their_exit_code(folder: Path, tmp_path: Path) -> None:
    cases = [
        (("models", "compare", POOR, "absent"), 4, "base-2, good, poor"),
        (("models", "compare", POOR, GOOD), 1, "--queries FILE"),
        (("models", "compare", POOR, GOOD, "--queries", tmp_path / "none.csv"), 4, "none.csv"),
        (("models", "activate", "absent"), 4, "base-2, good, poor"),
        (("models", "activate", GOOD), 1, "too few"),
        (("models", "rollback"), 4, "no model was active before"),
        (("models", "show", "absent"), 4, "base-2, good, poor"),
        (("evaluate", "--queries", tmp_path / "none.csv", "--compare", "x"), 4, "none.csv"),
        (("train", "embedding"), 4, "sameitem mine"),
        (("train", "embedding", "--triplets", tmp_path / "none.parquet"), 4, "none.parquet"),
        (("train", "category", "--name", "a/b"), 1, "need a name"),
        (("train", "category", "--name", "base-2"), 5, "choose another --name"),
        (("train", "category", "--seed", 2**32), 2, "--seed"),
        (("train", "embedding", "--minutes", "nan"), 2, "above 0, got nan"),
        (("train", "embedding", "--minutes", "inf"), 2, "above 0, got inf"),
        (("train", "embedding", "--minutes", "0"), 2, "above 0, got 0"),
        (("train", "taste"), 2, "taste"),
    ]
    for arguments, status, word in cases:
        done = sameitem(folder, *arguments)
        assert (done.returncode, done.stdout) == (status, ""), (arguments, done)
        assert word in done.stderr, (arguments, done)
        assert "Traceback" not in done.stderr


def test_the_interface_lists_activates_and_trains_as_operations(folder: Path) -> None:
    shop = open_models(folder, gate={"least_queries": 1_000})
    with live_server(shop) as client:
        listed = client("GET", "/v1/models").json
        assert (listed["active"], [model["version"] for model in listed["versions"]]) == (POOR, ["base-2", GOOD, POOR])
        assert client("POST", "/v1/models:activate", json={"version": "absent"}).status == 404
        refused = client("POST", "/v1/models:activate", json={"version": GOOD}).json
        forced = client("POST", "/v1/models:activate", json={"version": GOOD, "force": True}).json
        training = client("POST", "/v1/models:train", json={"model": "embedding"}).json
        again = client("POST", "/v1/models:train", json={"model": "embedding"}).json
        assert (training["kind"], training["state"], again["id"]) == ("train", "queued", training["id"])
        waiting = client("GET", "/v1/models").json["operations"]
        assert [operation["id"] for operation in waiting] == [refused["id"], forced["id"], training["id"]]
        run_jobs(shop.jobs, work_of(shop))
        ended = {job["id"]: client("GET", f"/v1/operations/{job['id']}").json for job in (refused, forced, training)}
        assert [operation["state"] for operation in ended.values()] == ["failed", "done", "failed"]
        assert "too few" in ended[refused["id"]]["error"]
        assert ended[forced["id"]]["result"]["gate"]["forced"]
        assert "sameitem mine" in ended[training["id"]]["error"]
        listed = client("GET", "/v1/models").json
        assert (listed["active"], listed["operations"]) == (GOOD, [])
        assert client("POST", "/v1/models:train", json={"model": "taste"}).status == 422
        assert client("POST", "/v1/models:train", json={"model": "category", "name": "a/b"}).status == 422
        assert client("POST", "/v1/models:train", json={"model": "category", "name": "base-2"}).status == 409
    shop.close()


def test_a_command_whose_job_another_process_ran_fails_in_the_same_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_elsewhere(table: JobTable, job_id: str, work: Mapping[str, Work], **_: object) -> Job:
        assert run_jobs(table, work) == 1
        return table.get(job_id)

    monkeypatch.setattr("sameitem.core.jobs.run_job", run_elsewhere)
    shop = open_models(folder)
    with pytest.raises(NotFoundError, match="no model version 'absent'"):
        run_shop_job(shop, "compare", {"before": POOR, "after": "absent", "queries": ""}, Terminal(quiet=True))
    shop.close()


def test_an_index_of_another_model_takes_its_model_with_it(folder: Path) -> None:
    older = answer(folder, "index", "list")["current"]
    answer(folder, "models", "activate", GOOD, "--force")
    answer(folder, "index", "rollback", older)
    assert answer(folder, "models", "list")["active"] == POOR


def test_nothing_of_this_loads_the_training_stack() -> None:
    code = (
        "import sys\nimport sameitem.apps.server, sameitem.apps.cli, sameitem.upkeep.work\n"
        "print(sorted({'torch', 'sameitem.learning.train'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
