"""Where a process meets the others: loopback alone by default; other hosts over TLS where the environment says so.

On one host there is no router and no daemon. Every process listens on a loopback port of its own and, besides, keeps
trying to listen on one port that follows from the domain: the *meeting port*. Whoever has it introduces newcomers to all
others (gossip); from then on processes talk directly. When its holder dies, another's next try succeeds.

A router at ``tcp/127.0.0.1:7447`` is joined whenever there is one: rmw_zenohd beside native nodes, or our own gateway
between hosts.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import zenoh

from irevla_ros.ros.errors import MiddlewareError

ROUTER = "tcp/127.0.0.1:7447"
MEETING_PORT = 17447  # plus the domain; clear of ROS's DDS ports and of the ephemeral range
MAX_DOMAIN = 232
_ENDPOINT = re.compile(r"(tcp|tls)/(\[[0-9a-fA-F:.]+\]|[^:/\s]+):([0-9]{1,5})")
_YES = {"1": True, "0": False, "": False}


@dataclass(frozen=True)
class Network:
    """The environment's answer to where and how; ``connect`` and ``listen`` are this host's gateway to others."""

    domain: int = 0
    connect: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    allow_plaintext: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.domain <= MAX_DOMAIN:
            raise MiddlewareError(f"ROS_DOMAIN_ID={self.domain}", f"must be 0 to {MAX_DOMAIN}", "choose another domain")
        for name, endpoints in (("IREVLA_CONNECT", self.connect), ("IREVLA_LISTEN", self.listen)):
            for endpoint in endpoints:
                self._check(name, endpoint)
        for name, path in (("CA", self.ca), ("CERT", self.certificate), ("KEY", self.key)):
            if path is not None and not path.is_file():
                raise MiddlewareError(f"IREVLA_TLS_{name}={path}", "no such file", "give the path of a PEM file")
        if (self.certificate is None) != (self.key is None):
            raise MiddlewareError("IREVLA_TLS_CERT and IREVLA_TLS_KEY", "belong together", "set both or neither")

    @property
    def meeting_point(self) -> str:
        return f"tcp/127.0.0.1:{MEETING_PORT + self.domain}"

    @property
    def two_hosts(self) -> bool:
        return bool(self.connect or self.listen)

    def node_config(self) -> zenoh.Config:
        """The configuration of a node's session: a peer on loopback."""
        config = _common("peer")
        _set(config, "listen/endpoints", ["tcp/127.0.0.1:0", self.meeting_point])
        _set(config, "connect/endpoints", [self.meeting_point, ROUTER])
        # For ever and in the background: the meeting port's holder may die, and a router may come, at any time.
        for side, longest_ms in (("listen", 500), ("connect", 1000)):
            _set(config, f"{side}/timeout_ms", -1)
            _set(config, f"{side}/exit_on_failure", False)
            _set(config, f"{side}/retry", _retry(longest_ms))
        return config

    def gateway_config(self) -> zenoh.Config:
        """The configuration of the one session of a host that routes to other hosts; it fails if there is a router."""
        config = _common("router")
        _set(config, "listen/endpoints", [ROUTER, *self.listen])
        _set(config, "listen/exit_on_failure", True)
        _set(config, "connect/endpoints", list(self.connect))
        _set(config, "connect/timeout_ms", -1)
        _set(config, "connect/exit_on_failure", False)
        _set(config, "connect/retry", _retry(2000))
        tls = "transport/link/tls"
        if self.ca is not None:
            _set(config, f"{tls}/root_ca_certificate", str(self.ca))
        if self.certificate is not None:
            for side in ("listen", "connect"):
                _set(config, f"{tls}/{side}_certificate", str(self.certificate))
                _set(config, f"{tls}/{side}_private_key", str(self.key))
        # Who connects shows a certificate of the same authority, or is sent away.
        _set(config, f"{tls}/enable_mtls", True)
        _set(config, f"{tls}/verify_name_on_connect", True)
        return config

    def _check(self, name: str, endpoint: str) -> None:
        match = _ENDPOINT.fullmatch(endpoint)
        if match is None or not 0 < int(match.group(3)) < 65536:
            raise MiddlewareError(f"{name}={endpoint}", "is not tls/HOST:PORT", "write for example tls/gpu-box:7447")
        protocol, host = match.group(1), match.group(2)
        if protocol == "tcp" and not self.allow_plaintext and not _is_loopback(host):
            remedy = "use tls/, or set IREVLA_ALLOW_PLAINTEXT=1 on a network that you trust"
            raise MiddlewareError(f"{name}={endpoint}", "plaintext stays on this host", remedy)
        if protocol == "tls":
            missing = [f"IREVLA_TLS_{part}" for part, path in
                       (("CA", self.ca), ("CERT", self.certificate), ("KEY", self.key)) if path is None]  # fmt: skip
            if missing:
                raise MiddlewareError(f"{name}={endpoint}", f"TLS needs {', '.join(missing)}", "docs/middleware.md")


def from_environment(environment: Mapping[str, str]) -> Network:
    """Read ROS_DOMAIN_ID and IREVLA_*. Raises MiddlewareError naming variable, value and rule."""
    domain = environment.get("ROS_DOMAIN_ID", "") or "0"
    if not domain.isdecimal():
        raise MiddlewareError(f"ROS_DOMAIN_ID={domain}", f"must be 0 to {MAX_DOMAIN}", "choose another domain")
    plaintext = environment.get("IREVLA_ALLOW_PLAINTEXT", "")
    if plaintext not in _YES:
        raise MiddlewareError(f"IREVLA_ALLOW_PLAINTEXT={plaintext}", "must be 0 or 1", "set it to 1 to allow plaintext")
    return Network(
        domain=int(domain),
        connect=_split(environment.get("IREVLA_CONNECT", "")),
        listen=_split(environment.get("IREVLA_LISTEN", "")),
        ca=_path(environment.get("IREVLA_TLS_CA", "")),
        certificate=_path(environment.get("IREVLA_TLS_CERT", "")),
        key=_path(environment.get("IREVLA_TLS_KEY", "")),
        allow_plaintext=_YES[plaintext],
    )


def _common(mode: str) -> zenoh.Config:
    config = zenoh.Config()
    _set(config, "mode", mode)
    _set(config, "scouting/multicast/enabled", False)
    _set(config, "scouting/gossip/enabled", True)
    # The cache of a latched topic orders its samples by time.
    _set(config, "timestamping/enabled", True)
    _set(config, "transport/shared_memory/enabled", False)
    return config


def _retry(longest_ms: int) -> dict[str, float]:
    return {"period_init_ms": 200, "period_max_ms": longest_ms, "period_increase_factor": 1.5}


def _set(config: zenoh.Config, key: str, value: object) -> None:
    config.insert_json5(key, json.dumps(value))


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
