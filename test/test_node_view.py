"""The page over real HTTP from the real node: pictures only while somebody looks, health, the curve, and who may ask."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from arm_toys import graph as nodes
from irevla_ros.core.episode_machine import EpisodeConfig, EpisodeMachine
from irevla_ros.core.episode_state import Judge, Request, Start, Verb, Verdict
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.graph_messages import LearnerStatus, Sealed
from irevla_ros.core.types import Mode, Outcome, TerminationReason
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.view import LOOKING_NS, ViewNode
from irevla_ros.nodes.view_history import ViewHistory
from irevla_ros.nodes.view_model import PICTURE_NS, POINTS, WINDOW, ViewModel
from irevla_ros.nodes.view_server import ViewServer
from irevla_ros.ros.messages import Image
from irevla_ros.ros.qos import LATCHED
from node_toys import Peer
from ros_toys import spin_for, spin_until
from spool_toys import toy_episode


def ask(url: str, path: str, host: str = "", method: str = "GET") -> tuple[int, bytes]:
    address = url.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def asking(url: str, path: str, *spinning: Any) -> tuple[int, bytes]:
    """The same while the nodes spin: a browser is another process."""
    answers: list[tuple[int, bytes]] = []
    thread = threading.Thread(target=lambda: answers.append(ask(url, path)))
    thread.start()
    spin_until(lambda: answers, *spinning)
    thread.join()
    return answers[0]


def until(url: str, found: Callable[[dict[str, Any]], bool], *spinning: Any) -> dict[str, Any]:
    """The state of the page once ``found`` holds for it."""
    states: list[dict[str, Any]] = []

    def seen() -> bool:
        states.append(json.loads(ask(url, "/state.json")[1]))
        return found(states[-1])

    spin_until(seen, *spinning)
    return states[-1]


class World(Peer):
    """One arm, its recorder and the learner."""

    def __init__(self) -> None:
        super().__init__()
        self._images = self.create_publisher(Image, topics.image("front"), topics.LOCK_STEP)
        self.say_sealed = self.speak(Sealed, topics.SEALED)
        self.say_learner = self.speak(LearnerStatus, topics.STATUS, LATCHED)
        self.stamp_ns = 0

    def image(self, colour: tuple[int, int, int]) -> None:
        self.stamp_ns += 1
        self._images.publish(convert.image_message(np.full((48, 64, 3), colour, np.uint8), self.stamp_ns, "front"))

    def listeners(self) -> int:
        return int(self._images.get_subscription_count())


@contextmanager
def graph(**parameters: Any) -> Iterator[tuple[ViewNode, World]]:
    with nodes(ViewNode, World, port=0, **parameters) as (view, world):
        assert isinstance(view, ViewNode) and isinstance(world, World)
        try:
            yield view, world
        finally:
            view.on_shutdown()


def test_images_are_taken_only_while_somebody_looks() -> None:
    with graph() as (view, world):
        spin_until(lambda: view.count_publishers(topics.image("front")) == 1, view, world)
        spin_for(0.6, view, world)
        assert world.listeners() == 0
        assert asking(view.server.url, "/picture/front.jpg", view, world) == (204, b"")
        spin_until(lambda: world.listeners() == 1, view, world)

        pictures: list[bytes] = []

        def seen() -> bool:
            world.image((200, 40, 10))
            code, body = ask(view.server.url, "/picture/front.jpg")
            pictures.extend([body] if code == 200 else [])
            return bool(pictures)

        spin_until(seen, view, world)
        shown = cv2.imdecode(np.frombuffer(pictures[0], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert shown.shape == (48, 64, 3)
        assert np.abs(shown.astype(int) - (200, 40, 10)).max() <= 6  # JPEG
        # Nobody asks any more.
        spin_until(lambda: world.listeners() == 0, view, world, timeout_s=LOOKING_NS / 1e9 + 30)


def test_the_page_tells_of_arms_nodes_and_learning() -> None:
    with graph() as (view, world):
        code, page = asking(view.server.url, "/", view, world)
        assert code == 200 and b"<title>irevla_ros</title>" in page
        assert re.findall(rb'https?://[^"]*', page) == [b"http://www.w3.org/2000/svg"]  # a name; nothing comes from afar
        world.say_learner(LearnerStatus("stage1", "press-red", 3, 12, 0.5, 6, 7))
        state = world.start()
        until(view.server.url, lambda page: page["arms"][0]["phase"] == "run", view, world)
        world.say_sealed(Sealed(state.episode_id, 5, Outcome.SUCCESS, TerminationReason.SUCCESS))
        seen = until(view.server.url, lambda page: page["episodes"] == 1 and len(page["nodes"]) == 2 and page["learner"], view,
                     world)  # fmt: skip
    assert seen["arms"] == [
        {"name": "", "phase": "run", "waits": False, "task": "press-red", "instruction": "press the red button",
         "mode": "train", "episode": "run1-000000", "outcome": "unknown", "detail": ""},
    ]  # fmt: skip
    assert [node["name"] for node in seen["nodes"]] == ["/peer", "/view"]
    assert seen["nodes"][1]["values"]["page"] == f"OK: {view.server.url}"
    assert (seen["learner"]["stage"], seen["learner"]["done"], seen["learner"]["of"]) == ("stage1", 3, 12)
    assert seen["curves"] == [{"label": "press-red, train", "points": [[1, 1.0]]}]


def test_each_arm_has_its_pictures_and_states() -> None:
    with graph(arms=["left", "right"]) as (view, _):
        assert sorted(view.model.snapshot()["pictures"]) == ["left/front", "right/front"]
        assert [arm["name"] for arm in view.model.snapshot()["arms"]] == ["left", "right"]


def test_only_this_machine_is_answered_and_only_what_there_is() -> None:
    with graph() as (view, _):
        url, port = view.server.url, view.server.server_address[1]
        assert url == f"http://127.0.0.1:{port}/"
        for host in ("localhost:1234", f"127.0.0.1:{port}", "[::1]", "LOCALHOST"):
            assert ask(url, "/state.json", host)[0] == 200
        for host in ("evil.example", "127.0.0.1.evil.example", "[", "192.168.0.1"):
            assert ask(url, "/state.json", host)[0] == 403
        for path in ("/x", "/picture/back.jpg", "/../setup.py", "/picture/../../etc/passwd.jpg", "/%2e%2e/setup.py"):
            assert ask(url, path)[0] == 404
        assert ask(url, "/state.json", method="POST")[0] == 501


def test_a_port_that_is_taken_is_no_reason_to_go_without_a_page() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with nodes(ViewNode, port=port) as (view,):
            assert isinstance(view, ViewNode)
            assert view.server.server_address[1] not in (0, port)
            view.on_shutdown()


def test_an_address_that_is_not_ours_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"page on 192\.0\.2\.1, port 0: cannot be opened"):
        ViewServer("192.0.2.1", 0, ViewModel([""], ["front"], lambda: 0))


def test_the_page_fetches_nothing_that_its_own_policy_forbids() -> None:
    with graph() as (view, _):
        address = view.server.url.removeprefix("http://").rstrip("/")
        connection = http.client.HTTPConnection(address, timeout=30)
        connection.request("GET", "/")
        answer = connection.getresponse()
        page, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
        connection.close()
    images = re.search(r"img-src ([^;]*);", policy)
    icon = re.search(r'<link rel="icon" href="(\w+:)', page)
    assert images is not None and icon is not None and icon[1] in images[1].split()


# A browser with as much of a document as the page's script touches; it polls once for each state, and once for nobody.
BROWSER = """
const {page, states} = JSON.parse(require("fs").readFileSync(0));
class Element {
  textContent = ""; className = ""; classList = {toggle() {}};
  append() {} replaceChildren() {} setAttribute() {}
}
const elements = {};
let later;
globalThis.document = {hidden: false, getElementById: id => elements[id] ??= new Element(),
  createElement: () => new Element(), createElementNS: () => new Element()};
globalThis.fetch = async () => {
  if (!states.length) throw new Error("nobody answers");
  const state = states.shift();
  return {json: async () => state};
};
globalThis.setTimeout = call => { later = call; };
const polls = states.length + 1;
new Function(page.match(/<script>([^]*)<[/]script>/)[1])();
(async () => {
  for (let n = 0; n < polls; n++) {
    for (later = null; later === null;) await new Promise(done => setImmediate(done));
    console.log([elements.stage.textContent, elements.gone.textContent, elements.gone.className].join("|"));
    later();
  }
})();
"""


def polled(*said: LearnerStatus) -> list[list[str]]:
    """Stage, what it says of the graph, and how, after each poll; the last finds nobody."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node, which runs the script of the page")
    model, states = ViewModel([""], [], Clock()), []
    for status in said:
        model.learner(status)
        states.append(model.snapshot())
    page = files("irevla_ros.nodes").joinpath("view.html").read_text()
    done = subprocess.run([node, "-e", BROWSER], input=json.dumps({"page": page, "states": states}), capture_output=True,
                          text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [line.split("|") for line in done.stdout.splitlines()]


def test_the_page_tells_an_end_from_a_fault() -> None:
    practising = LearnerStatus("stage 1", "press-red", 3, 12, 0.5, 6, 7)
    finished = LearnerStatus("finished", "", 0, 0, version=20, finished=True, detail="report: /r/report.html")
    assert polled(practising, finished) == [
        ["stage 1, press-red, 3 of 12, success 50% of the last 6, head 7", "", ""],
        ["finished, head 20, report: /r/report.html", "", ""],
        ["finished, head 20, report: /r/report.html", "the graph has ended", "ended"],
    ]
    assert polled(practising)[-1][1:] == ["the view node does not answer: was the graph stopped?", ""]


# ---- the model -------------------------------------------------------------------------------------------------------


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


def test_a_picture_is_due_five_times_a_second_and_encoded_once() -> None:
    clock = Clock()
    model = ViewModel([""], ["front"], clock)
    assert model.due("front") and model.wanted(LOOKING_NS) == set()
    model.picture("front", np.zeros((8, 8, 3), np.uint8))
    assert not model.due("front")
    first = model.jpeg("front")
    assert first is not None and first[:2] == b"\xff\xd8" and model.jpeg("front") is first
    clock.now = PICTURE_NS
    assert model.due("front")
    clock.now = LOOKING_NS
    assert model.wanted(LOOKING_NS) == {"front"}
    clock.now += 1
    assert model.wanted(LOOKING_NS) == set()
    assert model.jpeg("back") is None


def test_the_curve_is_the_mean_of_the_last_episodes_of_a_task() -> None:
    world = ViewModel([""], ["front"], Clock())
    peer_states = _states(2 * WINDOW + 3)
    for number, (running, success) in enumerate(peer_states):
        world.state("", running)
        outcome = Outcome.SUCCESS if success else Outcome.FAILURE
        world.sealed("", Sealed(running.episode_id, 4, outcome, TerminationReason.SUCCESS))
        world.sealed("", Sealed(f"other-{number}", 4, outcome, TerminationReason.SUCCESS))  # its beginning was not seen
        world.sealed("", Sealed(running.episode_id, 0, outcome, TerminationReason.SUCCESS))  # nothing was kept
    (curve,) = world.snapshot()["curves"]
    # Successes are episodes 0, 3, 6, ...: of any 20 in a row 6 or 7.
    assert curve["label"] == "press-red, train"
    assert curve["points"][:4] == [(1, 1.0), (2, 1 / 2), (3, 1 / 3), (4, 2 / 4)]
    assert curve["points"][-1] == (43, sum(n % 3 == 0 for n in range(23, 43)) / 20)


def test_after_a_restart_the_curve_goes_on_and_a_waiting_arm_shows_what_it_saw_last(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "practice")
    for number, success in enumerate((True, False, True), 1):
        episode = toy_episode(f"r-arm0-{number:06d}", 3, cameras={"front": (8, 8)}, task="press-red", run_id="r")
        outcome = Outcome.SUCCESS if success else Outcome.FAILURE
        spool.write_episode(replace(episode, meta=replace(episode.meta, outcome=outcome)))
    spool.write_episode(toy_episode("other-arm0-000001", 3, cameras={"front": (8, 8)}, run_id="other"))
    history = ViewHistory(str(tmp_path), "r")
    world = ViewModel(["arm0"], ["arm0/front"], Clock())
    world.recall(history.newest(10))
    (curve,) = world.snapshot()["curves"]
    assert curve["label"] == "press-red, train" and [rate for _, rate in curve["points"]] == [1.0, 0.5, 2 / 3]
    assert world.last_episode("arm0") == "r-arm0-000003" and not world.running("arm0")
    assert world.snapshot()["arms"][0]["waits"] is True
    picture = history.last_picture("r-arm0-000003", "front")
    assert picture is not None and (picture == SpoolReader(spool.root).read("r-arm0-000003").images["front"][-1]).all()
    assert ViewHistory("", "r").newest(10) == [] and history.last_picture("r-arm0-000009", "front") is None


def test_a_long_curve_is_thinned_to_its_newest_point() -> None:
    world = ViewModel([""], ["front"], Clock())
    for running, success in _states(3 * POINTS + 1):
        world.state("", running)
        outcome = Outcome.SUCCESS if success else Outcome.FAILURE
        world.sealed("", Sealed(running.episode_id, 4, outcome, TerminationReason.SUCCESS))
    points = world.snapshot()["curves"][0]["points"]
    assert len(points) <= POINTS and points[-1][0] == 3 * POINTS + 1


def _states(count: int) -> list[Any]:
    """(state of the run, whether it succeeds) of episodes of which every third succeeds."""
    machine, found = EpisodeMachine(EpisodeConfig(()), "run1", 0, 0, 0), []
    for number in range(count):
        machine.handle(Start("press-red", "press", Mode.TRAIN, number), 0, 0)
        found.append((machine.state, number % 3 == 0))
        machine.handle(Verdict(True, Judge.OPERATOR, 0), 0, 0)
        machine.handle(Request(Verb.SEALED), 0, 0)
    return found
