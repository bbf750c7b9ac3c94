"""`irevla up` with real processes: status, restart, the order of stopping, the end of the work, and what it refuses."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from irevla_ros.cli.main import main
from irevla_ros.cli.up import operators_part
from irevla_ros.core.config import CONFIG_FOLDER, find_config
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.graph_messages import LearnerStatus
from irevla_ros.core.health import Level
from irevla_ros.jobs.summary import EvaluatedEpisode, Evaluation, summarise
from irevla_ros.nodes import preparation
from irevla_ros.nodes.checking import check_values
from irevla_ros.nodes.console import Console, learner_line, status_line
from irevla_ros.nodes.graph import COLLECTION, load_graph
from irevla_ros.nodes.overview import NodeRow, Overview
from irevla_ros.nodes.supervisor import ProcessStatus
from irevla_ros.ros.embedded.parameter_file import load_parameter_file
from irevla_ros.ros.messages import DiagnosticArray, DiagnosticStatus, KeyValue
from ros_toys import Process

TOYS = Path(__file__).with_name("up_toys.py")
SECOND = 10**9
VIEW_ALONE = "nodes: {view: {each: graph}}\n"


def expect(process: Process, *words: str) -> str:
    """Read lines until one has all ``words``."""
    while True:
        line = process.line()
        if all(word in line for word in words):
            return line
        assert line, f"ended before {words}"


def starter(folder: Path) -> Path:
    """`irevla` as a script in ``folder``."""
    script = folder / "start.py"
    script.write_text("import sys\nfrom irevla_ros.cli.main import main\nsys.exit(main(sys.argv[1:]))\n")
    return script


def pid_of(argument: Path, name: str) -> int:
    """The process of the node ``name`` that was given ``argument``."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
        except OSError:
            continue
        if str(argument).encode() in words and f"__node:={name}".encode() in words:
            return int(entry.name)
    raise AssertionError(f"{name} does not run")


# ---- the whole -------------------------------------------------------------------------------------------------------


def test_who_dies_comes_back_and_ctrl_c_stops_all_with_the_arbiter_first(tmp_path: Path) -> None:
    with Process("graph", tmp_path, script=TOYS) as graph:
        for name in ("arm0/sim", "arm0/arbiter", "learner"):
            line = expect(graph, f"{name} ", "up", "restarts 0", "Hz", "2 dropped", "ok")
        assert expect(graph, "learner: ") == "learner: stage 1, press-red, 12 of 50, success 62% of the last 12, head 3"
        os.kill(pid_of(tmp_path, "sim"), signal.SIGKILL)
        assert "arm0/sim ended with signal SIGKILL; restart in 0.5 s" in expect(graph, "SIGKILL")
        assert expect(graph, "arm0/sim restarted") == "arm0/sim restarted (1)"
        line = expect(graph, "arm0/sim ", "up", "restarts 1", "ok")
        graph.signal(signal.SIGINT)
        expect(graph, "stopping")
        code, rest, errors = graph.finish()
    assert (code, rest) == (130, "stopped; resume with: irevla up toys"), (line, errors)
    order = (tmp_path / "order").read_text().splitlines()
    assert order[0] == "/arm0/arbiter" and sorted(order[1:]) == ["/arm0/sim", "/learner"]


def test_the_graph_ends_when_the_learner_has_finished(tmp_path: Path) -> None:
    with Process("graph", tmp_path, script=TOYS) as graph:
        expect(graph, "arm0/arbiter ", "ok")
        (tmp_path / "done").touch()
        expect(graph, "learner has finished")
        code, rest, errors = graph.finish()
    assert code == 0, errors
    assert rest.splitlines()[-1] == "stopping"  # nobody asked for it: nothing of a second Ctrl-C
    assert (tmp_path / "order").read_text().splitlines() == ["/learner", "/arm0/arbiter", "/arm0/sim"]


def test_the_last_words_are_the_success_and_where_the_report_is(tmp_path: Path) -> None:
    graph, run = tmp_path / "view.yaml", tmp_path / "run"
    graph.write_text("nodes: {view: {each: graph, ends_graph: true}}\n")  # in the place of a learner
    evaluations = {label: Evaluation(label, "c", True, (EvaluatedEpisode("press-red", "rl", 1, success, 9),))
                   for label, success in (("sft", False), ("irevla", True))}  # fmt: skip
    summarise(evaluations, seed=1, wall_s=1.0).write(run)
    (run / "report.html").touch()
    with Process("up", graph, "--run", run, "-p", "port:=0", script=starter(tmp_path)) as process:
        expect(process, "page: ")
        os.kill(pid_of(run / "log" / "parameters.yaml", "view"), signal.SIGINT)
        expect(process, "stopping")
        code, rest, errors = process.finish()
    assert code == 0, errors
    *_, before, after, last = rest.splitlines()
    assert before.split()[0] == "SFT" and "0.00 [0.00, 0.79] n=1" in before
    assert after.split()[0] == "iRe-VLA" and "1.00 [0.21, 1.00] n=1" in after
    assert last == f"open {run}/report.html"


def test_the_command_runs_a_graph_and_refuses_a_second_one_beside_it(tmp_path: Path) -> None:
    graph, run = tmp_path / "view.yaml", tmp_path / "runs" / "first"
    graph.write_text(VIEW_ALONE)
    other = str((int(os.environ["ROS_DOMAIN_ID"]) + 1) % 100)

    def up(*words: str, domain: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **({"ROS_DOMAIN_ID": domain} if domain else {})}
        command = [sys.executable, "-m", "irevla_ros", "up", str(graph), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)

    with Process("up", graph, "--run", run, "-p", "port:=0", "arms=[a,b]", script=starter(tmp_path)) as first:
        assert "page: http://127.0.0.1:" in expect(first, "page: ")
        again = up("--run", str(tmp_path / "second"))
        assert again.returncode == 2
        assert again.stderr.startswith(f"irevla: error: domain {os.environ['ROS_DOMAIN_ID']}: `irevla up ")
        assert f"stop it first, or set ROS_DOMAIN_ID={other} for this one" in again.stderr
        assert not (tmp_path / "second").exists()
        here = up("--run", str(run), domain=other)
        assert here.returncode == 2 and f"run {run}: `irevla up" in here.stderr and "choose another --run" in here.stderr
        first.signal(signal.SIGTERM)
        code, _, errors = first.finish()
    assert code == 130 and "irevla: stopped; resume with: irevla up" in errors
    assert sorted(path.name for path in (run / "log").iterdir()) == ["lock", "parameters.yaml", "view.log"]
    assert load_parameter_file(str(run / "log" / "parameters.yaml")) == [
        ("/**", {"run": str(run), "run_id": "first", "side": ""}), ("/**/view", {"port": 0}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "irevla up: the following arguments are required: graph; see irevla up --help"),
        (["simm"], "graph 'simm': no such graph; did you mean 'sim'?"),
        (["sim", "-p", "lerner:seed:=2"], "-p lerner:seed:=2: no node 'lerner' in this graph; name one of sim, "),
        (["sim", "-p", "seed=2"], "-p seed=2: a parameter is [node:]name:=value; write -p rate_hz:=10.0, say"),
        (["sim", "-p", "run:=/x"], "-p run:=/x: run follows from --run; use --run"),
        (["sim", "-p", "arms:=[a]"], "-p arms:=[a]: arms are the graph's; leave out -p"),
        (["sim", "-p", "chekpoint:=x"], "-p chekpoint:=x: parameter 'chekpoint': no node of this graph has this parameter; "
                                       "did you mean 'checkpoint' (of policy) or"),
        (["sim", "-p", "sim:tasks:=[a]"], "-p sim:tasks:=[a]: parameter 'tasks': sim has no such parameter; "
                                         "did you mean 'tasks' (of episode, learner)"),
        (["sim", "-p", "policy:std:=.nan"], "parameters of /policy: std = nan: a finite number is required"),
        (["sim", "-p", "policy:std:=9"], "parameters of /policy: std = 9.0, threads = 1: 0 to 1.0, and at least 1"),
        (["sim", "-p", "policy:threads:=two"], "parameters of /policy: threads = 'two': a whole number (int) is required"),
        (["sim", "-p", "rate_hz:=0.0"], "parameters of /arm0/sim: rate_hz = 0.0: this simulator is controlled at 10 Hz"),
        (["sim", "-p", "silence_s:=-1.0"], "silence_s = -1.0: a time in seconds is required, not negative"),
        (["sim", "-p", "policy:checkpoint:=no/such"], "checkpoint = 'no/such': the folder of a checkpoint"),
        (["sim", "-p", "learner:sft:=no/such"], "sft = no/such: the folder of a checkpoint or of a run"),
        (["sim", "-p", "episode:tasks:=[pres-red]"], "task 'pres-red' of suite 'demo': no such task; did you mean"),
        (["sim", "-p", "suite:=dem"], "suite 'dem': no such suite"),
        (["sim", "-p", "reward:detector:=clasifier"], "detector = 'clasifier': one of 'oracle', 'human',"),
        (["sim", "-p", "sim:cameras:=[fromt]"], "camera 'fromt': no such camera; did you mean 'front'?"),
        (["sim", "arms=[1a]"], "arm '1a': a namespace is letters"),
        (["sim", "--params-file", "nothing.yaml"], "configuration 'nothing.yaml': no such file"),
    ],
)
def test_what_cannot_be_started_is_answered_in_one_line(tmp_path: Path, words: list[str], message: str,
                                                        capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert main(["up", *words, "--run", str(tmp_path / "run")]) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1
    assert not (tmp_path / "run").exists()


# ---- what it starts with -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [path.stem for path in (CONFIG_FOLDER / "graphs").glob("*.yaml")])
def test_shipped_graphs_have_parameters_for_their_nodes_alone(name: str) -> None:
    graph = load_graph(name)
    sections = [node for node, _ in load_parameter_file(str(find_config(name, "parameters")))]
    assert sections[0] == "/**"
    assert set(sections[1:]) <= {f"/**/{node}" for node in graph.nodes}
    assert [node for node, spec in graph.nodes.items() if spec.stop_first] == ["arbiter"]


def test_given_parameters_win_over_sections_of_the_node(tmp_path: Path) -> None:
    graph = load_graph("sim", ["arms=[a]"])
    path = tmp_path / "p.yaml"
    given = ["rate_hz:=5.0", "arbiter:limits.home:=[1, 2]", "arbiter:rate_hz:=7.0", "use_sim_time:=true", "suite:=yes: no"]
    with pytest.raises(ConfigError, match="-p suite:=yes: no: a parameter is"):
        preparation.write_parameters(path, graph, {"run": "/a b"}, given)
    preparation.write_parameters(path, graph, {"run": '/a "b" 1'}, given[:-1])
    found = dict(load_parameter_file(str(path)))
    assert found["/**"] == {"run": '/a "b" 1'}
    assert found["/**/arbiter"] == {"rate_hz": 7.0, "limits.home": [1, 2], "use_sim_time": True}
    with_rate = ("sim", "recorder", "episode", "policy", "learner")  # the others have no such parameter
    assert all(found[f"/**/{node}"] == {"rate_hz": 5.0, "use_sim_time": True} for node in with_rate)
    assert found["/**/reward"] == found["/**/view"] == {"use_sim_time": True}


@pytest.mark.parametrize(("name", "told"), [("collect", True), ("franka", True), ("sim", False)])
def test_it_says_how_the_operator_starts_an_episode(name: str, told: bool, tmp_path: Path) -> None:
    path, graph = tmp_path / "p.yaml", load_graph(name)
    preparation.write_parameters(path, graph, {"run": str(tmp_path), "run_id": "r"})
    files = [find_config(one, "parameters") for one in (name, *([COLLECTION] if graph.front else []))]
    lines = operators_part(check_values(graph, [*files, path]), 7)
    assert bool(lines) == told
    if told:
        assert lines[0] == "each episode waits for the operator:" and "gamepad" in lines[1]
        assert "ROS_DOMAIN_ID=7" in lines[3] and "-m irevla_ros.nodes.desk" in lines[3]


def test_ros_stays_on_this_host_unless_told_otherwise() -> None:
    for before, after in (
        ({}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}),
        ({"ROS_DISTRO": "humble"}, {"ROS_DISTRO": "humble", "ROS_LOCALHOST_ONLY": "1"}),
    ):
        environment = dict(before)
        preparation.stay_on_this_host(environment)
        assert environment == after


@pytest.mark.parametrize("text", ["-1", "233", "x", "1.5", "²"])
def test_a_wrong_domain_is_named(text: str) -> None:
    assert preparation.domain({"ROS_DOMAIN_ID": "232"}) == 232
    assert preparation.domain({"ROS_DOMAIN_ID": ""}) == preparation.domain({}) == 0
    with pytest.raises(ConfigError, match=f"ROS_DOMAIN_ID={text}: it is 0 to 232"):
        preparation.domain({"ROS_DOMAIN_ID": text})


def test_the_name_of_the_run_is_its_id(tmp_path: Path) -> None:
    assert preparation.run_id(tmp_path / "sim-1") == "sim-1"
    with pytest.raises(ConfigError, match="run folder 'my run': its name is the run's id"):
        preparation.run_id(tmp_path / "my run")


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"lock .*: cannot be opened"):
        preparation.hold(tmp_path / "lock", "domain 1", "stop it", "me")
    assert not (tmp_path / "other").exists()


# ---- what it shows -----------------------------------------------------------------------------------------------------


def report(name: str, level: int = 0, message: str = "ok", **values: str) -> DiagnosticArray:
    pairs = [KeyValue(key=key.replace("__", "."), value=value) for key, value in values.items()]
    return DiagnosticArray(status=[DiagnosticStatus(name=name, level=bytes([level]), message=message, values=pairs)])


def test_a_report_becomes_a_row() -> None:
    overview = Overview()
    overview.received(report("/arm0/sim", a__hz="9.5", a__age_s="0.25", b__hz="1.0", a__dropped="3", b__lost="4", n="9"), 0)
    row = overview.row("/arm0/sim", SECOND // 2)
    assert row is not None and overview.row("/arm1/sim", 0) is None
    assert (row.level, row.message, row.hz, row.age_s, row.drops) == (Level.OK, "ok", 9.5, 0.75, 7)
    silent = overview.row("/arm0/sim", 6 * SECOND)
    assert silent is not None
    assert (silent.level, silent.message) == (Level.STALE, "silent for 6 s; it said last: ok")
    overview.received(report("/policy", 7, a__age_s="never"), 0)
    odd = overview.row("/policy", 0)
    assert odd is not None and (odd.level, odd.age_s, odd.hz) == (Level.ERROR, None, None)


def test_of_too_many_names_the_longest_silent_is_forgotten() -> None:
    overview = Overview()
    for number in range(300):
        overview.received(report(f"/n{number}"), number)
    assert len(overview.rows(300)) == 256
    assert overview.row("/n43", 300) is None and overview.row("/n44", 300) is not None


UP = ProcessStatus("arm0/sim", True, 12, 3.0, 1, None, "")
DOWN = ProcessStatus("arm0/sim", False, 0, 0.0, 2, 1, "error: run = '': it is needed")


def test_a_line_for_each_node() -> None:
    row = NodeRow("/arm0/sim", Level.WARN, "slow", 9.53, 0.123, 7, 0.5, {})
    assert status_line(UP, row, 10) == "arm0/sim    up    restarts 1      9.5 Hz    0.12 s    7 dropped  WARN: slow"
    assert status_line(UP, None, 8).endswith("  starting")
    assert status_line(UP, replace(row, silence_s=3.1), 8).endswith("-  starting")  # it said so before its restart
    assert status_line(DOWN, row, 8).endswith("  exit code 1: error: run = '': it is needed")
    assert learner_line(LearnerStatus("stage 2", "", 0, 0, None, 0, 4, detail="waits")) == "learner: stage 2, head 4; waits"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_drawn_in_place_and_news_stay_above(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "20")
    now = [0.0]
    stream = Terminal()
    console = Console(stream, lambda: now[0])
    for _ in range(3):
        console.show([UP, DOWN], Overview(), 0, None)
    drawn = stream.getvalue()
    assert drawn.count("\n") == 2 and all(len(line.removesuffix("\x1b[K")) <= 39 for line in drawn.splitlines())
    now[0] = 1.0
    console.show([UP, DOWN], Overview(), 0, None)
    assert stream.getvalue()[len(drawn) :].startswith("\x1b[2Aarm0/sim")
    before = stream.getvalue()
    console.say("news")
    console.show([UP, DOWN], Overview(), 0, None)  # at once, below the news
    assert stream.getvalue()[len(before) :].startswith("\x1b[2A\x1b[Jnews\narm0/sim")
    before = stream.getvalue()
    console.say("stopping")
    console.say("open report.html")
    # The statuses are wiped: where the last line ends, the shell's prompt writes on.
    assert stream.getvalue()[len(before) :] == "\x1b[2A\x1b[Jstopping\nopen report.html\n"


def test_a_terminal_that_has_gone_does_not_stop_the_graph() -> None:
    stream = Terminal()
    console = Console(stream)
    stream.close()
    console.say("nobody reads it")
    console.show([UP], Overview(), 0, None)
