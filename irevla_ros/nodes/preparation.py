"""What a graph is started with: environment, locks, the run's folder, and the parameters that are this run's own."""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import IO

import yaml

from irevla_ros.core.errors import BusyError, ConfigError
from irevla_ros.nodes.checking import require_declared
from irevla_ros.nodes.graph import SIDES, GraphSpec

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,79}")  # episode ids begin with it, and name files
_PARAMETER = re.compile(r"(?:(?P<node>[a-z][a-z0-9_]*):)?(?P<name>[A-Za-z][A-Za-z0-9_.]*):=(?P<text>.+)", re.DOTALL)
_DOMAINS = 233


def run_id(folder: Path) -> str:
    """The run's id: the name of its folder. Raises ConfigError where that cannot name files."""
    name = folder.resolve().name
    if not _RUN_ID.fullmatch(name):
        raise ConfigError(f"run folder {name!r}", "its name is the run's id: 1 to 80 of letters, digits and ._+=-",
                          "choose another --run")  # fmt: skip
    return name


def stay_on_this_host(environment: MutableMapping[str, str]) -> None:
    """Let ROS discover nodes of this host alone, unless the environment says otherwise already."""
    if environment.get("ROS_DISTRO") == "humble":
        environment.setdefault("ROS_LOCALHOST_ONLY", "1")  # later distributions warn of it
    else:
        environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def domain(environment: Mapping[str, str]) -> int:
    """ROS_DOMAIN_ID, 0 where it is not set. Raises ConfigError for what is none."""
    text = environment.get("ROS_DOMAIN_ID") or "0"
    if not (text.isascii() and text.isdecimal() and int(text) < _DOMAINS):
        raise ConfigError(f"ROS_DOMAIN_ID={text}", f"it is 0 to {_DOMAINS - 1}", "unset it, or give such a number")
    return int(text)


def domain_locks(number: int, side: str) -> list[Path]:
    """The files that a graph in this domain locks, one for each of its sides ("": both): one graph of a user in a domain."""
    folder = Path(tempfile.gettempdir())
    return [folder / f"irevla-up-{os.getuid()}-domain-{number}-{one}.lock" for one in SIDES if side in ("", one)]


def hold(path: Path, what: str, remedy: str, owner: str) -> IO[bytes]:
    """Lock ``path`` until the file is closed, here and in every process that inherits it; ``owner`` is written into it.

    Raises BusyError, ``<what>: <owner> runs there``, while somebody else holds it.
    """
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+b", 0)
    except OSError as error:
        raise ConfigError(f"lock {path}", f"cannot be opened ({error.strerror})", "remove it, if it is yours") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        theirs = " ".join(file.read(500).decode(errors="replace").split())
        file.close()
        raise BusyError(what, f"{theirs or 'another graph'} runs there, or its nodes do still", remedy) from None
    file.truncate(0)
    file.write(owner.encode())
    return file


def write_parameters(path: Path, graph: GraphSpec, shared: Mapping[str, str], given: Sequence[str] = ()) -> None:
    """A ROS parameter file with ``shared`` texts for all nodes, then what was ``given`` as ``[node:]name:=value`` (YAML).

    What is given is said for each node that has it once more: natively a later `/**` does not count against an earlier
    `/**/<node>`. Raises ConfigError for what is not of that form, or not for a node of the graph.
    """
    sections: dict[str, dict[str, str]] = {"/**": {name: json.dumps(text) for name, text in shared.items()}}
    for text in given:
        match = _PARAMETER.fullmatch(text)
        if match is None or not _is_value(match["text"]):
            raise ConfigError(f"-p {text}", "a parameter is [node:]name:=value", "write -p rate_hz:=10.0, say")
        node, name, value = match["node"], match["name"], match["text"].strip()
        if node is not None and node not in graph.nodes:
            raise ConfigError(f"-p {text}", f"no node {node!r} in this graph", f"name one of {', '.join(graph.nodes)}")
        if name in shared:
            option = "--side" if name == "side" else "--run"
            raise ConfigError(f"-p {text}", f"{name} follows from {option}", f"use {option}")
        if name == "arms":
            raise ConfigError(f"-p {text}", "arms are the graph's", "leave out -p, as in arms=[arm0,arm1]")
        for one in require_declared(graph, graph.nodes if node is None else [node], name, f"-p {text}"):
            sections.setdefault(f"/**/{one}", {})[name] = value
    lines = [f"{node}:\n  ros__parameters:\n" + "".join(f"    {name}: {value}\n" for name, value in values.items())
             for node, values in sections.items()]  # fmt: skip
    path.write_text("".join(lines), encoding="utf-8")


def _is_value(text: str) -> bool:
    """One YAML value on one line that a ROS parameter can have."""
    try:
        value = yaml.safe_load(f"[{text.strip()}]") if "\n" not in text else None
        return isinstance(value, list) and len(value) == 1 and not isinstance(value[0], dict) and value[0] is not None
    except yaml.YAMLError:
        return False
