"""What the environment says about where this process meets others: domain, other hosts, certificates."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from irevla_ros.ros.errors import MiddlewareError

MEETING_PORT = 17447  # of domain 0; clear of ROS's DDS ports and of the ephemeral range
MEETING_POINTS = 3  # ports a domain
MAX_DOMAIN = 232
ROUTER_PORT = 7447  # rmw_zenohd's
_ENDPOINT = re.compile(r"(tcp|tls)/(\[[0-9a-fA-F:.]+\]|[^:/\s]+):([0-9]{1,5})")
_WILDCARDS = ("0.0.0.0", "[::]")
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
    def meeting_points(self) -> tuple[str, ...]:
        first = MEETING_PORT + MEETING_POINTS * self.domain
        return tuple(f"tcp/127.0.0.1:{first + number}" for number in range(MEETING_POINTS))

    @property
    def two_hosts(self) -> bool:
        return bool(self.connect or self.listen)

    def _check(self, name: str, endpoint: str) -> None:
        match = _ENDPOINT.fullmatch(endpoint)
        if match is None or not 0 < int(match.group(3)) < 65536:
            raise MiddlewareError(f"{name}={endpoint}", "is not tls/HOST:PORT", "write for example tls/gpu-box:7447")
        protocol, host, port = match.group(1), match.group(2), int(match.group(3))
        if name == "IREVLA_LISTEN" and port == ROUTER_PORT and host in _WILDCARDS:
            remedy = "give this host's own address, or another port"
            raise MiddlewareError(f"{name}={endpoint}", f"port {ROUTER_PORT} of loopback is the local router's", remedy)
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
