"""`irevla up` on two hosts, here network namespaces: its sides and locks, the options of the link, and a link that is cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hosts_toys import NotHere, certificates, inside, namespaces
from irevla_ros.cli.main import main
from irevla_ros.nodes import preparation
from ros_toys import EMBEDDED, Process, embedded_only

ROOT = Path(__file__).resolve().parent.parent
HOSTS = {"gpu-box": "10.213.8.2", "robot-pc": "10.213.8.1"}
GRAPH = "nodes: {arbiter: {side: robot, stop_first: true}, reward: {}}\n"
NATIVELY = "natively ROS's own middleware links the hosts; leave it out, and let the routers"


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    path = tmp_path / "start.py"
    path.write_text("import sys\nfrom irevla_ros.cli.main import main\nfrom irevla_ros.nodes import console\n"
                    "console.PLAIN_S = 0.5\nsys.exit(main(sys.argv[1:]))\n")  # fmt: skip
    (tmp_path / "graph.yaml").write_text(GRAPH)
    return path


def expect(process: Process, *words: str) -> str:
    """Read lines until one has all ``words``."""
    while True:
        line = process.line()
        if all(word in line for word in words):
            return line
        assert line, f"ended before {words}"


# ---- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--connect", "gpu-box"], "IREVLA_CONNECT=gpu-box: is not tls/HOST:PORT; write for example tls/gpu-box:7447"),
        (["--listen", "tls/192.168.1.20:7447", "--tls-ca", __file__],
         "IREVLA_LISTEN=tls/192.168.1.20:7447: TLS needs IREVLA_TLS_CERT, IREVLA_TLS_KEY"),
        (["--connect", "tcp/gpu-box:7447"], "IREVLA_CONNECT=tcp/gpu-box:7447: plaintext stays on this host"),
    ],
)  # fmt: skip
def test_links_are_options_of_the_graph_and_of_every_node(words: list[str], message: str, starter: Path) -> None:
    """As in the environment; natively they are refused with what to do instead."""
    wanted = message if EMBEDDED else NATIVELY
    graph, run = str(starter.with_name("graph.yaml")), str(starter.with_name("run"))
    for command in (["-m", "irevla_ros.nodes.clock", *words, "--ros-args", "-r", "__node:=c"],
                    [str(starter), "up", graph, "--side", "gpu", "--run", run, *words]):  # fmt: skip
        result = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60)
        assert result.returncode in (1, 2) and wanted in result.stderr, result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_side_that_is_none_is_answered_with_those_that_are(starter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "sim", "--side", "left"]) == 2
    assert "invalid choice: 'left' (choose from" in capsys.readouterr().err
    graph = starter.with_name("half.yaml")
    graph.write_text("nodes: {reward: {}}\n")
    assert main(["up", str(graph), "--side", "robot", "--run", str(starter.with_name("run"))]) == 2
    assert "side 'robot': no node of this graph is there: reward; give those that belong there `side: robot`" in (
        capsys.readouterr().err
    )
    assert main(["up", "sim", "-p", "side:=gpu", "--run", str(starter.with_name("run"))]) == 2
    assert "-p side:=gpu: side follows from --side; use --side" in capsys.readouterr().err


# ---- locks ------------------------------------------------------------------------------------------------------------


def test_a_domain_holds_one_of_each_side_or_a_whole_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation.tempfile, "gettempdir", lambda: str(tmp_path))
    sides = {side: preparation.domain_locks(7, side) for side in ("", "robot", "gpu")}
    assert sides[""] == sides["robot"] + sides["gpu"] and len({*sides[""]}) == 2
    assert set(sides[""]).isdisjoint(preparation.domain_locks(8, ""))


# ---- two namespaces ---------------------------------------------------------------------------------------------------


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[dict[str, str]]:
    """host -> namespace; certificates lie in ``tmp_path``."""
    with ExitStack() as stack:
        try:
            names = stack.enter_context(namespaces(HOSTS))
            certificates(tmp_path, list(HOSTS))
        except NotHere as error:
            pytest.skip(str(error))
        yield names


@embedded_only
def test_both_sides_meet_as_documented_and_stop_each_for_itself(starter: Path, hosts: dict[str, str]) -> None:
    """The arbiter knows how far the other host's clock is off; each side's Ctrl-C ends that side alone."""
    folder, graph = starter.parent, str(starter.with_name("graph.yaml"))
    link = {"gpu": ["--listen", f"tls/{HOSTS['gpu-box']}:7447"], "robot": ["--connect", "tls/gpu-box:7447"]}

    def up(side: str, host: str) -> Process:
        tls = [word for name, file in (("ca", "ca.pem"), ("cert", f"{host}.pem"), ("key", f"{host}.key"))
               for word in (f"--tls-{name}", folder / file)]  # fmt: skip
        words = ["up", graph, "--side", side, "--run", folder / host / "run", "-p", "arbiter:clock_limit_s:=0.2"]
        return Process(*words, *link[side], *tls, script=starter, prefix=inside(hosts[host]))

    with up("robot", "robot-pc") as robot:
        assert "robot side" in expect(robot, "run: ")
        expect(robot, "arbiter ", "ERROR: clock: clock of host gpu: not known to be within 200 ms")
        with up("gpu", "gpu-box") as gpu:
            expect(gpu, "reward ", "up")
            expect(robot, "arbiter ", "up", "  ok")
            whole = subprocess.run([sys.executable, str(starter), "up", graph, "--run", str(folder / "whole")],
                                   capture_output=True, text=True, timeout=60)  # fmt: skip
            assert whole.returncode == 2 and f"domain {os.environ['ROS_DOMAIN_ID']}: `irevla up" in whole.stderr
            gpu.signal(signal.SIGINT)
            assert gpu.finish()[0] == 130
        robot.signal(signal.SIGINT)
        code, rest, _ = robot.finish()
    assert code == 130 and "did not stop" not in rest
    assert {path.name for path in (folder / "robot-pc" / "run" / "log").iterdir()} == {
        "arbiter.log", "robot_clock.log", "lock", "parameters.yaml",
    }  # fmt: skip


@embedded_only
@pytest.mark.nightly
def test_the_whole_graph_over_a_link_that_is_cut_for_ten_seconds(tmp_path: Path) -> None:
    """The bench, with one fault: real nodes on both sides, in practice."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    bench = subprocess.run([sys.executable, str(ROOT / "bench" / "graph_hosts.py"), "--only", "link cut for 10 s", "--to",
                            str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
                           timeout=900)  # fmt: skip
    assert bench.returncode == 0, bench.stderr
    results = json.loads((tmp_path / "graph_hosts.json").read_text())
    assert len(results["faults"]) == 2
    for fault in results["faults"]:
        assert fault["moved_ms"] <= 200 and fault["oldest_ms"] <= 500
        assert fault["ended"] == "stopped, unknown"
        assert fault["tried_s"] is not None and fault["recovered_s"] is not None
        assert fault["learning"] and fault["lost"] == 0
    assert results["strangers"].pop("the right certificate") == "let in"
    assert all(told.startswith("refused") for told in results["strangers"].values()) and len(results["strangers"]) == 2
    assert results["clock"].startswith("OK: gpu ")
