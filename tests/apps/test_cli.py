"""The command line, as a program."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sameitem.upkeep.demo_shop import DemoShop
from shops import copied


def sameitem(*arguments: object, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program and return what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "sameitem", *map(str, arguments)],
        capture_output=True,
        text=True,
        input=stdin,
        env={**os.environ, **environment},
        timeout=300,
    )


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom sameitem.apps.cli import app\n"
        "heavy = {'numpy', 'pyarrow', 'onnxruntime', 'sqlalchemy', 'fastapi', 'PIL', 'pydantic', 'torch', 'numba'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.slow
def test_serving_and_building_load_no_training_stack() -> None:
    code = (
        "import sys\nimport sameitem.apps.server, sameitem.apps.cli, sameitem.upkeep.work\n"
        "print(sorted({'torch', 'onnx', 'ray', 'cv2', 'scipy.sparse', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.slow
class TestAShop:
    """One shop from `init` to `index rollback`, and what the commands say on the way."""

    def test_goes_from_a_file_to_an_answer(self, tmp_path: Path, drawn: DemoShop) -> None:
        folder = tmp_path / "shop"
        made = sameitem("init", folder, "--json")
        assert json.loads(made.stdout) == {"shop": str(folder)}
        imported = sameitem("import", drawn.catalogue, "--shop", folder, "--json")
        assert imported.returncode == 0, imported.stderr
        counts = json.loads(imported.stdout)
        assert {"read", "added", "updated", "unchanged", "set_aside", "reasons"} <= set(counts)
        assert counts["added"] == drawn.products
        again = json.loads(sameitem("import", drawn.catalogue, "--json", SAMEITEM_SHOP=str(folder)).stdout)
        assert (again["added"], again["updated"], again["unchanged"]) == (0, 0, drawn.products)
        built = json.loads(sameitem("build", "--shop", folder, "--json").stdout)
        assert {"version", "images", "dropped", "duplicates", "certificate", "stages_s", "peak_mb"} <= set(built)
        assert set(built["certificate"]) >= {"recall", "k", "queries", "low", "high"}
        photo = next((drawn.folder / "queries").iterdir())
        found = sameitem("--shop", folder, "search", photo, "--num", "3", "--json")
        assert len(json.loads(found.stdout)["results"]) == 3
        why = sameitem("--shop", folder, "search", photo, "--num", "3", "--explain")
        assert "by the vote of the most alike labelled images" in why.stdout
        assert re.search(r"1\s+0\.\d{3} .* x [+-]0\.\d{3} = [+-]\d+\.\d{2}\s+\d+\.\d%", why.stdout)
        parts = json.loads(sameitem("--shop", folder, "search", photo, "--explain", "--json").stdout)
        assert {result["explain"]["curve"]["source"] for result in parts["results"]} <= {"category", "common"}
        listed = json.loads(sameitem("index", "list", "--shop", folder, "--json").stdout)
        assert [version["version"] for version in listed["versions"]] == [built["version"]]
        shown = json.loads(sameitem("index", "show", "--shop", folder, "--json").stdout)
        assert shown["versions"][0]["examples"]
        back = sameitem("index", "rollback", built["version"], "--shop", folder)
        assert "is live" in back.stdout


@pytest.mark.slow
def test_a_click_log_of_another_system_is_imported_once(tmp_path: Path, built_folder: Path, drawn: DemoShop) -> None:
    folder = copied(built_folder, tmp_path / "shop")
    photo = next((drawn.folder / "queries").iterdir())
    line = {
        "photo": str(photo),
        "time": 1_790_000_000,
        "user": "u",
        "shown": ["P00001", "P00002"],
        "clicked": ["P00002"],
    }
    lines = [json.dumps(line), json.dumps({**line, "photo": "missing.jpg"})]
    (tmp_path / "clicks.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = sameitem("import-clicks", tmp_path / "clicks.jsonl", "--shop", folder, "--json")
    assert done.returncode == 3, done.stderr
    counts = json.loads(done.stdout)
    assert (counts["sessions"], counts["events"], counts["set_aside"]) == (1, 1, 1)
    again = json.loads(sameitem("import-clicks", tmp_path / "clicks.jsonl", "--shop", folder, "--json").stdout)
    assert (again["sessions"], again["repeated"]) == (1, 1)


@pytest.mark.slow
def test_rows_that_were_set_aside_make_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "feed.csv").write_text("product_id,image\na,missing.jpg\n", encoding="utf-8")
    sameitem("init", tmp_path / "shop")
    done = sameitem("import", tmp_path / "feed.csv", "--shop", tmp_path / "shop", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["set_aside"] == 1


@pytest.mark.slow
def test_mistakes_end_in_one_line_and_their_exit_code(tmp_path: Path, built_folder: Path) -> None:
    sameitem("init", tmp_path / "shop")
    cases = [
        (("search", "none.jpg", "--shop", tmp_path / "shop"), 4, "none.jpg"),
        (("build", "--shop", tmp_path), 4, "sameitem init"),
        (("init", tmp_path / "shop"), 5, "already"),
        (("build", "--shop", tmp_path / "shop"), 1, "sameitem import"),
        (("build", "--shop", tmp_path / "shop", "--set", "engine.recal=1"), 1, "engine.recal"),
        (("search",), 2, ""),
        (("nonsense",), 2, "nonsense"),
        (("index", "rollback", "x", "--shop", built_folder), 4, "there are"),
        (("serve", "--shop", tmp_path / "shop", "--host", "0.0.0.0"), 1, "sameitem keys create"),
        (("serve", "--shop", tmp_path / "shop", "--set", "serve.require_keys=true"), 1, "sameitem keys create"),
        (("keys", "create", "till", "--scope", "root", "--shop", tmp_path / "shop"), 1, "search, events, write, admin"),
        (("keys", "create", "till", "--shop", tmp_path / "shop"), 2, "--scope"),
        (("keys", "revoke", "none", "--shop", tmp_path / "shop"), 4, "keys list"),
    ]
    for arguments, status, word in cases:
        done = sameitem(*arguments)
        assert (done.returncode, done.stdout) == (status, ""), (arguments, done)
        assert word in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_config_show_tells_where_each_value_comes_from(tmp_path: Path) -> None:
    sameitem("init", tmp_path)
    with (tmp_path / "sameitem.toml").open("a", encoding="utf-8") as file:
        file.write("\n[search]\nnum = 20\n")
    text = (tmp_path / "sameitem.toml").read_text(encoding="utf-8").replace("[search]  #", "# [search]  #", 1)
    (tmp_path / "sameitem.toml").write_text(text, encoding="utf-8")
    done = sameitem(
        "config",
        "show",
        "--sources",
        "--json",
        "--set",
        "serve.port=1",
        SAMEITEM_SHOP=str(tmp_path),
        SAMEITEM_ENGINE__K="10",
    )
    sources = json.loads(done.stdout)["sources"]
    origins = [sources[key] for key in ("serve.port", "engine.k", "search.num", "engine.recall")]
    assert origins == ["flag", "environment", "file", "default"]


@pytest.mark.slow
def test_the_server_says_where_it_is_and_runs_jobs_beside_itself(tmp_path: Path, built_folder: Path) -> None:
    import urllib3

    folder = copied(built_folder, tmp_path / "shop")
    server = subprocess.Popen(
        [sys.executable, "-m", "sameitem", "serve", "--shop", str(folder), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        address = next(word for word in server.stderr.readline().split() if word.startswith("http"))
        with urllib3.PoolManager() as pool:
            started = pool.request("POST", address + "v1/index:build").json()
            ends = time.monotonic() + 120
            while (state := pool.request("GET", address + f"v1/operations/{started['id']}").json())["state"] != "done":
                assert time.monotonic() < ends
                assert state["state"] in ("queued", "running"), state
                time.sleep(0.2)
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(120) in (0, 130, -signal.SIGINT)
        server.stderr.close()  # type: ignore[union-attr]


@pytest.mark.slow
def test_the_engine_bench_prints_its_table_and_draws_it(tmp_path: Path) -> None:
    small = ("--rows", "1000", "--dim", "64", "--queries", "100", "--recall", "0.9")
    benched = sameitem("bench", "engine", *small, "--plot", tmp_path / "plot.svg", "--json")
    assert benched.returncode == 0, benched.stderr
    printed = json.loads(benched.stdout)
    assert (printed["rows"], printed["dim"], printed["engines"][0]["name"]) == (1000, 64, "sameitem")
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")
    refused = sameitem("bench", "engine", *small, "--plot", tmp_path / "nowhere" / "plot.svg")
    assert refused.returncode == 1
    assert "no folder" in refused.stderr
