"""Other hosts on the command line: an option is the environment variable beside it, so that children inherit what was said.

Only the embedded backend links hosts by itself; natively that is the matter of ROS's own middleware.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import MutableMapping, Sequence

from irevla_ros.ros.backend import Backend, chosen
from irevla_ros.ros.errors import MiddlewareError

OPTIONS = {  # option: its variable, what it takes, its meaning
    "--connect": ("IREVLA_CONNECT", "ENDPOINT", "connect to another host, such as tls/gpu-box:7447"),
    "--listen": ("IREVLA_LISTEN", "ENDPOINT", "let other hosts connect, such as tls/192.168.1.20:7447 (default: none may)"),
    "--tls-ca": ("IREVLA_TLS_CA", "FILE", "PEM: certificate of the authority of both hosts"),
    "--tls-cert": ("IREVLA_TLS_CERT", "FILE", "PEM: certificate of this host"),
    "--tls-key": ("IREVLA_TLS_KEY", "FILE", "PEM: private key of this host"),
}
LINKS = ("IREVLA_CONNECT", "IREVLA_LISTEN")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of this module."""
    group = parser.add_argument_group("another host (docs/middleware.md)")
    for option, (variable, metavar, text) in OPTIONS.items():
        group.add_argument(option, dest=variable, metavar=metavar, help=f"{text}; as {variable} in the environment")


def settle(given: argparse.Namespace, environment: MutableMapping[str, str]) -> None:
    """Put the options that were ``given`` into ``environment``. Raises MiddlewareError where links are asked for natively."""
    said = {variable: getattr(given, variable, None) for variable, _, _ in OPTIONS.values()}
    environment.update({variable: text for variable, text in said.items() if text is not None})
    asked = [variable for variable in LINKS if environment.get(variable)]
    if asked and chosen().backend is Backend.NATIVE:
        raise MiddlewareError(f"{asked[0]}={environment[asked[0]]}", "natively ROS's own middleware links the hosts",
                              "leave it out, and let the routers (rmw_zenohd) of rmw_zenoh_cpp connect, or with a DDS start "
                              "with --network; IREVLA_ROS=embedded links by itself")  # fmt: skip


def settle_words(words: Sequence[str]) -> None:
    """``settle`` for a node's command line, as sys.argv: options stand before ``--ros-args``; other words are left alone."""
    own = list(words[1:])
    parser = argparse.ArgumentParser(allow_abbrev=False, epilog="ROS arguments follow --ros-args: docs/middleware.md")
    add_options(parser)
    given, _ = parser.parse_known_args(own[: own.index("--ros-args")] if "--ros-args" in own else own)
    settle(given, os.environ)
