"""batch --cluster on a real scheduler with real workers, some of which are killed: nothing is lost, nothing is there twice."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import hard_questions
import pytest
from dask_processes import Cluster

from bvverify import examples
from bvverify.certify import kernel
from bvverify.cli import batch_row, cluster_row, main
from bvverify.cli.batch_row import Task
from bvverify.load.instances import read_instances
from bvverify.pipeline import Options
from bvverify.search import proof, spread, workers
from bvverify.search.leaf import LeafSolver
from bvverify.search.root import Root
from bvverify.search.search import Search

pytest.importorskip("distributed")
MLP, CNN, IMAGES = (examples.path(name) for name in ("digits_mlp_qop.onnx", "digits_cnn_qdq.onnx", examples.IMAGES))
ROWS = 40


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("dask"), 2) as cluster:
        yield cluster


def _write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "input", "label", "radius", "timeout"])
        writer.writerows(rows)
    return path


@pytest.fixture
def instances(tmp_path):
    return _write(tmp_path / "rows.csv", [[MLP, f"{IMAGES}::{i % 20}", "", i // 20, 60] for i in range(ROWS)])


def _start(folder, address, *more):
    command = [sys.executable, "-m", "bvverify.cli", "batch", folder / "rows.csv", "--output", folder / "out.jsonl", "--cluster", address]
    return subprocess.Popen([*map(str, command), *map(str, more)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _lines(folder):
    path = folder / "out.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "what was waited for did not come"
        time.sleep(0.05)


def _expected(instances):
    return {
        (a["input"], a["radius"]): a["verdict"] for a in (batch_row.decide(Task(r, Options(), None)) for r in read_instances(instances))
    }


def test_killed_workers_cost_nothing_but_another_try(cluster, instances, tmp_path):
    rng, expected = random.Random(0), _expected(instances)
    driver = _start(tmp_path, cluster.address, "--certificates", tmp_path / "certificates")
    for at in (3, 12, 25):
        _wait_for(lambda at=at: len(_lines(tmp_path)) >= at)
        cluster.add()
        cluster.kill(rng.randrange(2))
    out, err = driver.communicate(timeout=120)
    lines = _lines(tmp_path)
    assert (driver.returncode, out) == (0, "")
    assert f"{ROWS} rows in" in err
    assert len(lines) == ROWS
    assert {(a["input"], a["radius"]): a["verdict"] for a in lines} == expected
    verified = [a for a in lines if a["verdict"] == "verified"]
    files = [file for a in verified for file in a["certificate"]]
    assert sorted(files) == sorted(str(p) for p in (tmp_path / "certificates").iterdir())
    assert len(files) == len(verified) > 5
    checked = subprocess.run([sys.executable, "-m", "bvverify.cli", "check", files[0]], capture_output=True, text=True, check=False)
    assert checked.stdout.startswith("accepted")


def test_a_killed_driver_goes_on_where_it_stopped(cluster, instances, tmp_path):
    driver = _start(tmp_path, cluster.address)
    _wait_for(lambda: len(_lines(tmp_path)) >= 8)
    driver.kill()
    driver.communicate()
    before = _lines(tmp_path)
    again = _start(tmp_path, cluster.address)
    _, err = again.communicate(timeout=120)
    lines = _lines(tmp_path)
    assert (again.returncode, len(lines)) == (0, ROWS)
    assert lines[: len(before)] == before
    assert len({(a["input"], a["radius"]) for a in lines}) == ROWS
    assert f"{len(before)} from an earlier run" in err


def test_what_nobody_wants_any_more_is_ended(cluster, tmp_path):
    """The search of this row would keep a worker for longer than anybody waits; its process goes with the driver."""
    _write(tmp_path / "rows.csv", [[CNN, f"{IMAGES}::8", "", 3, ""]])
    deciding = f"-m {cluster_row.__name__}"

    def at_work():
        told = subprocess.run(["ps", "-eo", "ppid,pid,times,args"], capture_output=True, text=True, check=True).stdout
        mine = {str(w.pid) for w in cluster.workers}
        return {line.split()[1] for line in told.splitlines() if deciding in line and line.split()[0] in mine and int(line.split()[2]) >= 3}

    idle = at_work()
    driver = _start(tmp_path, cluster.address)
    _wait_for(lambda: at_work() - idle or len(at_work()) > len(idle) or driver.poll() is not None)
    time.sleep(1)
    driver.kill()
    driver.communicate()
    # A row that comes afterwards finds a worker.
    _write(tmp_path / "rows.csv", [[MLP, f"{IMAGES}::{i}", "", 0, 60] for i in range(4)])
    (tmp_path / "out.jsonl").unlink(missing_ok=True)
    again = _start(tmp_path, cluster.address)
    again.communicate(timeout=60)
    assert (again.returncode, len(_lines(tmp_path))) == (0, 4)


def test_what_cannot_be_read_is_said_in_the_users_words(cluster, tmp_path):
    (tmp_path / "damaged.onnx").write_bytes(b"no model")
    _write(
        tmp_path / "rows.csv",
        [["damaged.onnx", f"{IMAGES}::1", "", 1, 60], [MLP, "missing.npz::1", "", 1, 60], [MLP, f"{IMAGES}::1", "", 0, 60]],
    )
    driver = _start(tmp_path, cluster.address)
    driver.communicate(timeout=60)
    reasons = {a["model"] + a["input"]: (a["verdict"], a["reason"]) for a in _lines(tmp_path)}
    assert [v for v, _ in reasons.values()].count("error") == 2
    assert reasons[f"damaged.onnx{IMAGES}::1"][1].startswith(str(tmp_path / "damaged.onnx"))
    assert reasons[f"{MLP}missing.npz::1"][1].startswith(str(tmp_path / "missing.npz"))


@pytest.mark.parametrize(
    ("patch", "address", "complaint"),
    [
        ("cluster.__version__ = '0.0.0'", None, "has bvverify"),
        ("cluster._PATIENCE = 0.5", "tcp://127.0.0.1:1", "no scheduler answers there"),
        ("", "nonsense://here", "address is tcp://HOST:PORT"),
    ],
)
def test_a_cluster_that_will_not_do_is_one_line(cluster, instances, tmp_path, patch, address, complaint):
    arguments = ["batch", str(instances), "--output", str(tmp_path / "out.jsonl"), "--cluster", address or cluster.address]
    code = f"import sys; from bvverify import cluster; from bvverify.cli import main; {patch}\nsys.exit(main({arguments!r}))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    assert complaint in ended.stderr


def test_jobs_and_a_cluster_are_two_ways(capsys, instances, tmp_path):
    assert main(["batch", str(instances), "--output", str(tmp_path / "o.jsonl"), "--cluster", "tcp://127.0.0.1:1", "--jobs", "2"]) == 1
    assert "--jobs counts processes here" in capsys.readouterr().err


def _task(tmp_path, *row):
    (instance,) = read_instances(_write(tmp_path / "one.csv", [row]))
    return Task(instance, Options(), None)


class _Hanging(cluster_row._Process):
    """A process that does nothing more."""

    def __init__(self):
        super().__init__()
        os.kill(self.process.pid, signal.SIGSTOP)


def test_a_row_that_hangs_is_killed_twice_and_then_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_row, "_Process", _Hanging)
    monkeypatch.setattr(cluster_row, "_idle", [])
    task = _task(tmp_path, CNN, f"{IMAGES}::8", "", 3, "")
    started = time.monotonic()
    answer, tries = cluster_row._twice(task, 2.0, lambda: True)
    assert (answer["verdict"], tries) == ("error", 2)
    assert "its process died twice" in answer["reason"]
    assert time.monotonic() - started < 20


def test_a_process_that_dies_costs_its_row_another_try(tmp_path, monkeypatch):
    task = _task(tmp_path, MLP, f"{IMAGES}::1", "", 1, 60)
    first = cluster_row._Process()
    monkeypatch.setattr(cluster_row, "_idle", [first])
    os.killpg(first.process.pid, signal.SIGKILL)
    answer, tries = cluster_row._twice(task, None, lambda: True)
    assert (answer["verdict"], tries) == ("verified", 2)
    # The process is kept for the next row.
    (kept,) = cluster_row._idle
    assert cluster_row._twice(task, None, lambda: True)[1] == 1
    kept.end()


def test_nobody_wants_it(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_row, "_idle", [])
    assert cluster_row._twice(_task(tmp_path, CNN, f"{IMAGES}::8", "", 3, ""), None, lambda: False) == (None, 1)


def test_one_hard_search_on_the_cluster(cluster, monkeypatch):
    """In rounds on its workers, of which one is killed on the way; what they grow is one proof."""
    monkeypatch.setattr(spread, "_ALONE", 0)
    monkeypatch.setattr(spread, "_ROUND", 3)
    query = hard_questions.query(-1)
    with workers.workers(1, cluster.address) as others:
        _wait_for(lambda: others.count == 2)  # one may still be on its way
        search = Search(Root.of(query, []), [0, 1])
        search.batch = 2
        killer = threading.Timer(1.0, lambda: cluster.kill(0))
        killer.start()
        outcome = spread.Spread(search, others, LeafSolver(query, "z3", 1024, 0)).run(None)
        killer.join()
    cluster.add()
    made = proof.certificate(query, search.root.tightenings, [outcome.trees[i] for i in sorted(outcome.trees)])
    assert kernel.check(made, query).bound_leaves > 10
