"""Settings of the network, and two hosts: TLS with client certificates between network namespaces, a cut link."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hosts_toys import NotHere, certificates, inside, link, namespaces
from ros_toys import EMBEDDED, Process, wait_until

if not EMBEDDED:
    pytest.skip("looks into the embedded backend; this run is native", allow_module_level=True)

import zenoh

from irevla_ros.ros.embedded import gateway as gateway_module
from irevla_ros.ros.embedded import session as session_module
from irevla_ros.ros.embedded.gateway import Gateway
from irevla_ros.ros.embedded.network import Network, from_environment
from irevla_ros.ros.embedded.session import gateway_config, open_node_session
from irevla_ros.ros.errors import MiddlewareError

HOSTS = {"robot": "10.213.7.1", "gpu": "10.213.7.2"}


@pytest.fixture(scope="session")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two certificate authorities, ``ours`` and ``theirs``, each with certificates for ``robot`` and ``gpu``."""
    root = tmp_path_factory.mktemp("authorities")
    also = "".join(f",{name}" for name in ("DNS:localhost", "IP:127.0.0.1", *(f"IP:{one}" for one in HOSTS.values())))
    for authority in ("ours", "theirs"):
        (root / authority).mkdir()
        try:
            certificates(root / authority, list(HOSTS), also)
        except NotHere as error:
            pytest.skip(str(error))
    return root


def certified(root: Path, name: str, authority: str = "ours", **kwargs: Any) -> Network:
    folder = root / authority
    return Network(ca=folder / "ca.pem", certificate=folder / f"{name}.pem", key=folder / f"{name}.key", **kwargs)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"ROS_DOMAIN_ID": "233"}, "ROS_DOMAIN_ID=233: must be 0 to 232"),
        ({"ROS_DOMAIN_ID": "x"}, "ROS_DOMAIN_ID=x: must be 0 to 232"),
        ({"IREVLA_CONNECT": "gpu-box"}, "IREVLA_CONNECT=gpu-box: is not tls/HOST:PORT; write for example tls/gpu-box:7447"),
        ({"IREVLA_CONNECT": "udp/gpu-box:7447"}, "IREVLA_CONNECT=udp/gpu-box:7447: is not tls/HOST:PORT"),
        ({"IREVLA_CONNECT": "tcp/gpu-box:7447"}, "IREVLA_CONNECT=tcp/gpu-box:7447: plaintext stays on this host; use tls/"),
        ({"IREVLA_LISTEN": "tcp/0.0.0.0:7448"}, "IREVLA_LISTEN=tcp/0.0.0.0:7448: plaintext stays on this host"),
        ({"IREVLA_LISTEN": "tls/0.0.0.0:7448"}, "IREVLA_LISTEN=tls/0.0.0.0:7448: TLS needs IREVLA_TLS_CA, IREVLA_TLS_CERT"),
        ({"IREVLA_LISTEN": "tls/0.0.0.0:7447"}, "IREVLA_LISTEN=tls/0.0.0.0:7447: port 7447 of loopback is the local router's"),
        ({"IREVLA_LISTEN": "tls/0.0.0.0:70000"}, "IREVLA_LISTEN=tls/0.0.0.0:70000: is not tls/HOST:PORT"),
        ({"IREVLA_TLS_CA": "/no/such.pem"}, "IREVLA_TLS_CA=/no/such.pem: no such file"),
        ({"IREVLA_TLS_CERT": __file__}, "IREVLA_TLS_CERT and IREVLA_TLS_KEY: belong together"),
        ({"IREVLA_ALLOW_PLAINTEXT": "yes"}, "IREVLA_ALLOW_PLAINTEXT=yes: must be 0 or 1"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named_on_one_line(environment: dict[str, str], text: str) -> None:
    with pytest.raises(MiddlewareError) as caught:
        from_environment(environment)
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)


def test_good_settings() -> None:
    assert from_environment({}) == Network()
    assert from_environment({"ROS_DOMAIN_ID": ""}).domain == 0
    assert not Network().two_hosts
    local = from_environment({"IREVLA_CONNECT": "tcp/127.0.0.1:7448, tcp/[::1]:7449,tcp/localhost:7450"})
    assert local.connect == ("tcp/127.0.0.1:7448", "tcp/[::1]:7449", "tcp/localhost:7450") and local.two_hosts
    trusted = {"IREVLA_CONNECT": "tcp/gpu-box:7447", "IREVLA_ALLOW_PLAINTEXT": "1", "ROS_DOMAIN_ID": "42"}
    assert from_environment(trusted).domain == 42


def test_domains_do_not_share_meeting_points() -> None:
    points = [one for domain in range(233) for one in Network(domain=domain).meeting_points]
    assert len(set(points)) == len(points) == 3 * 233
    ports = [int(one.rpartition(":")[2]) for one in points]
    assert min(ports) == 17447 and max(ports) < 32768  # below the ports that Linux gives to clients


def test_a_wrong_environment_ends_a_node_with_one_line() -> None:
    """Through run_node, as a user meets it."""
    code = "import sys\nfrom irevla_ros.ros import Node\nfrom irevla_ros.ros.run import run_node\n" \
           "sys.exit(run_node(lambda: Node('n'), args=[]))"  # fmt: skip
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                            env={**os.environ, "IREVLA_CONNECT": "tcp/gpu-box:7447"})  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "error: IREVLA_CONNECT=tcp/gpu-box:7447: plaintext stays on this host; use tls/, or set IREVLA_ALLOW_PLAINTEXT=1"
        " on a network that you trust"
    ]


class TestTls:
    """Two gateways on this host, each with a router port of its own."""

    @pytest.fixture
    def opened(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        sessions: list[zenoh.Session] = []

        def open_(network: Network) -> zenoh.Session:
            monkeypatch.setattr(session_module, "ROUTER", f"tcp/127.0.0.1:{free_port()}")
            sessions.append(zenoh.open(gateway_config(network)))
            return sessions[-1]

        yield open_
        for session in sessions:
            session.close()

    def neighbours(self, session: zenoh.Session) -> int:
        return len(list(session.info.routers_zid()))

    def test_a_certificate_of_the_authority_is_let_in(self, authorities: Path, opened: Any) -> None:
        port = free_port()
        gpu = opened(certified(authorities, "gpu", listen=(f"tls/127.0.0.1:{port}",)))
        opened(certified(authorities, "robot", connect=(f"tls/localhost:{port}",)))
        wait_until(lambda: self.neighbours(gpu) == 1)

    @pytest.mark.parametrize("intruder", ["foreign certificate", "foreign authority", "no certificate", "plaintext"])
    def test_nobody_else_is(self, authorities: Path, opened: Any, intruder: str) -> None:
        port = free_port()
        gpu = opened(certified(authorities, "gpu", listen=(f"tls/127.0.0.1:{port}",)))
        ours, theirs = authorities / "ours", authorities / "theirs"
        target = (f"tls/localhost:{port}",)
        if intruder == "plaintext":
            opened(Network(connect=(f"tcp/127.0.0.1:{port}",)))
        elif intruder == "foreign authority":
            opened(certified(authorities, "robot", "theirs", connect=target))
        elif intruder == "foreign certificate":
            opened(Network(ca=ours / "ca.pem", certificate=theirs / "robot.pem", key=theirs / "robot.key", connect=target))
        else:
            with pytest.raises(MiddlewareError, match="TLS needs IREVLA_TLS_CERT, IREVLA_TLS_KEY"):
                Network(ca=ours / "ca.pem", connect=target)
        # One who is let in comes after the intruder, and is the only one.
        opened(certified(authorities, "robot", connect=target))
        wait_until(lambda: self.neighbours(gpu) == 1)
        time.sleep(1.0)  # the intruder's next tries
        assert self.neighbours(gpu) == 1


class TestGateway:
    @pytest.fixture
    def router(self, monkeypatch: pytest.MonkeyPatch) -> str:
        router = f"tcp/127.0.0.1:{free_port()}"
        for module in (session_module, gateway_module):
            monkeypatch.setattr(module, "ROUTER", router)
        return router

    def test_the_first_is_elected_and_another_takes_over(self, router: str) -> None:
        network = Network(connect=(f"tcp/127.0.0.1:{free_port()}",))
        complaints: list[str] = []
        threads = threading.active_count()
        gateways = [Gateway(network, complaints.append) for _ in range(2)]
        gateways[0].start()
        wait_until(lambda: gateways[0].elected)
        gateways[1].start()
        time.sleep(0.3)
        assert not gateways[1].elected
        gateways[0].close()
        wait_until(lambda: gateways[1].elected)
        gateways[1].close()
        assert threading.active_count() == threads and complaints == []

    def test_what_keeps_it_from_routing_is_said_once(self, router: str, authorities: Path) -> None:
        wrong = Network(
            ca=authorities / "ours" / "ca.pem",
            certificate=authorities / "ours" / "gpu.pem",
            key=authorities / "ours" / "robot.key",
            listen=(f"tls/127.0.0.1:{free_port()}",),
        )
        complaints: list[str] = []
        gateway = Gateway(wrong, complaints.append)
        gateway.start()
        wait_until(lambda: complaints)
        time.sleep(1.5)
        gateway.close()
        assert len(complaints) == 1 and "keys may not be consistent" in complaints[0] and "\n" not in complaints[0]

    def test_nodes_join_a_router_whenever_it_comes(self, router: str) -> None:
        """As they do beside native nodes with rmw_zenohd."""
        node = open_node_session(Network(domain=231))
        assert list(node.info.routers_zid()) == []
        daemon = zenoh.open(gateway_config(Network()))
        wait_until(lambda: len(list(node.info.routers_zid())) == 1)
        daemon.close()
        wait_until(lambda: list(node.info.routers_zid()) == [])
        node.close()


@pytest.fixture
def hosts(authorities: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Two network namespaces with a link between them; for each the arguments of ``Process``."""
    with ExitStack() as stack:
        try:
            names = stack.enter_context(namespaces(HOSTS))
        except NotHere as error:
            pytest.skip(str(error))
        yield {
            host: {
                "prefix": inside(name),
                "environment": {
                    "IREVLA_TLS_CA": str(authorities / "ours" / "ca.pem"),
                    "IREVLA_TLS_CERT": str(authorities / "ours" / f"{host}.pem"),
                    "IREVLA_TLS_KEY": str(authorities / "ours" / f"{host}.key"),
                    **({"IREVLA_LISTEN": f"tls/{HOSTS['gpu']}:7447"} if host == "gpu" else {}),
                    **({"IREVLA_CONNECT": f"tls/{HOSTS['gpu']}:7447"} if host == "robot" else {}),
                },
            }
            for host, name in names.items()
        }


def test_two_hosts_over_tls(hosts: dict[str, dict[str, Any]]) -> None:
    """Topics both ways, a latched one and a service, through the gateways that the nodes elected among themselves."""
    with Process("robot", **hosts["robot"]) as robot, Process("learner", **hosts["gpu"]) as learner:
        assert learner.expect("state") == "state ready"
        assert learner.expect("answer") == "answer robot"
        robot.expect("echo")


@pytest.mark.nightly
def test_a_host_of_another_authority_is_sent_away(hosts: dict[str, dict[str, Any]], authorities: Path) -> None:
    theirs = {f"IREVLA_TLS_{name}": str(authorities / "theirs" / file)
              for name, file in (("CA", "ca.pem"), ("CERT", "robot.pem"), ("KEY", "robot.key"))}  # fmt: skip
    stranger = {**hosts["robot"], "environment": {**hosts["robot"]["environment"], **theirs}}
    with Process("learner", **hosts["gpu"]) as learner:
        learner.expect("up")
        with Process("robot", **stranger) as robot:
            robot.expect("up")
            time.sleep(5.0)  # it tries again and again
            assert learner.silent()
        with Process("robot", **hosts["robot"]):
            assert learner.expect("state") == "state ready"
            learner.expect("answer")


def test_the_next_process_takes_over_the_gateway(hosts: dict[str, dict[str, Any]]) -> None:
    with Process("robot", **hosts["robot"]) as robot, Process("latch", "first", "x", **hosts["gpu"]) as first:
        first.expect("latched")
        with Process("learner", **hosts["gpu"]) as learner:
            robot.expect("echo")
            learner.expect("answer")
            first.kill()  # it came first: its host's gateway dies with it
            for _ in range(2):
                learner.expect("answer")
            last = int(robot.expect("echo").split()[1])
            while int(robot.expect("echo").split()[1]) < last + 5:
                pass


@pytest.mark.nightly
def test_a_link_that_is_cut_and_restored(hosts: dict[str, dict[str, Any]]) -> None:
    """Longer than Zenoh's lease of 10 s, so that the link is given up and made again."""
    with Process("robot", **hosts["robot"]) as robot, Process("learner", **hosts["gpu"]) as learner:
        assert learner.expect("state") == "state ready"
        learner.expect("answer")
        last = int(robot.expect("echo").split()[1])
        link(hosts["gpu"]["prefix"][-1], "down")
        robot.signal(signal.SIGUSR1)
        robot.expect("changed")
        time.sleep(12.0)
        link(hosts["gpu"]["prefix"][-1], "up")
        start = time.monotonic()
        assert learner.expect("state") == "state changed"
        # 20 numbers a second: those of the cut are lost, later ones come back.
        while int(robot.expect("echo").split()[1]) < last + 240:
            pass
        learner.expect("answer")
        assert time.monotonic() - start < 30.0
