"""Zenoh sessions: how the processes of one host find each other without router or daemon.

Every process listens on a loopback port of its own. A domain has three more ports, its *meeting points*: a new process
takes the first that is free, and every process keeps trying to connect to all of them. Whoever is met there introduces
the newcomer to all others (gossip), and from then on processes talk directly. A process that dies frees its meeting point
for the next newcomer, which the others then find by their next try; one that hangs leaves two others.

A router at ``tcp/127.0.0.1:7447`` is joined whenever there is one: rmw_zenohd beside native nodes, or our own gateway
between hosts.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import zenoh

from irevla_ros.ros.embedded.network import ROUTER_PORT, Network
from irevla_ros.ros.errors import MiddlewareError

ROUTER = f"tcp/127.0.0.1:{ROUTER_PORT}"
_OWN = "tcp/127.0.0.1:0"
_ATTEMPTS = 5
# One thread reads all sockets: two pass every message on to each other. It may have to wait for the interpreter, so it must
# share nothing with the runtimes `net` and `acc`: undeclaring and closing wait for their tasks, and some of it holds the
# interpreter meanwhile.
_RUNTIME = ("ZENOH_RUNTIME", "(rx: (worker_threads: 1))")
_PATIENCE_MS = 100
_MOST_BATCHES = 16  # of 64 kB, allocated as needed


def open_node_session(network: Network) -> zenoh.Session:
    """The session of a process: a peer on loopback. Raises MiddlewareError."""
    fault = ""
    for _ in range(_ATTEMPTS):
        # Another newcomer may take the same meeting point between the look and the leap.
        point = next((one for one in network.meeting_points if _is_free(one)), None)
        try:
            with _runtime():
                return zenoh.open(_node_config(network, point))
        except zenoh.ZError as error:
            fault = " ".join(str(error).split())
    raise MiddlewareError("Zenoh session", fault, "run irevla doctor")


def gateway_config(network: Network) -> zenoh.Config:
    """The configuration of the one session of a host that routes to other hosts; opening it fails beside a router."""
    config = _common("router")
    _set(config, "listen/endpoints", [ROUTER, *network.listen])
    _connect(config, list(network.connect), longest_ms=2000)
    tls = "transport/link/tls"
    if network.ca is not None:
        _set(config, f"{tls}/root_ca_certificate", str(network.ca))
    if network.certificate is not None:
        for side in ("listen", "connect"):
            _set(config, f"{tls}/{side}_certificate", str(network.certificate))
            _set(config, f"{tls}/{side}_private_key", str(network.key))
    # Who connects shows a certificate of the same authority, or is sent away.
    _set(config, f"{tls}/enable_mtls", True)
    _set(config, f"{tls}/verify_name_on_connect", True)
    return config


@contextmanager
def _runtime() -> Iterator[None]:
    """Zenoh reads its threads from the environment, at the first opening only; children are to choose for themselves."""
    name, threads = _RUNTIME
    if name in os.environ:
        yield
        return
    os.environ[name] = threads
    try:
        yield
    finally:
        del os.environ[name]


def _node_config(network: Network, point: str | None) -> zenoh.Config:
    config = _common("peer")
    _set(config, "listen/endpoints", [_OWN] if point is None else [_OWN, point])
    _connect(config, [one for one in (*network.meeting_points, ROUTER) if one != point], longest_ms=1000)
    return config


def _common(mode: str) -> zenoh.Config:
    config = zenoh.Config()
    _set(config, "mode", mode)
    _set(config, "scouting/multicast/enabled", False)
    _set(config, "scouting/gossip/enabled", True)
    # The cache of a latched topic orders its samples by time.
    _set(config, "timestamping/enabled", True)
    _set(config, "transport/shared_memory/enabled", False)
    _set(config, "listen/exit_on_failure", True)
    # Opening waits for others no longer than this; the first process of a host has none to wait for.
    _set(config, "scouting/delay", _PATIENCE_MS)
    # Zenoh drops what finds the queue to a peer full for a millisecond, an image after 50. A camera image is a dozen
    # batches; with room for all of them it does not matter when the scheduler lets the peer read.
    _set(config, "transport/link/tx/queue/size/data", _MOST_BATCHES)
    return config


def _connect(config: zenoh.Config, endpoints: list[str], longest_ms: int) -> None:
    """Try in the background and for ever: who is to be met may come, die and come back at any time."""
    _set(config, "connect/endpoints", endpoints)
    _set(config, "connect/timeout_ms", -1)
    _set(config, "connect/exit_on_failure", False)
    _set(config, "connect/retry", {"period_init_ms": 200, "period_max_ms": longest_ms, "period_increase_factor": 1.5})


def _set(config: zenoh.Config, key: str, value: object) -> None:
    config.insert_json5(key, json.dumps(value))


def _is_free(endpoint: str) -> bool:
    host, port = endpoint.partition("/")[2].rsplit(":", 1)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
    return True
