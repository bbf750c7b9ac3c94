"""Names of nodes, topics and services: what ROS allows, and how relative, private and remapped names resolve."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from irevla_ros.ros.embedded.exceptions import (
    InvalidNamespaceException,
    InvalidNodeNameException,
    InvalidServiceNameException,
    InvalidTopicNameException,
)

_TOKEN = r"[A-Za-z_][A-Za-z0-9_]*"
_NODE = re.compile(_TOKEN)
_NAMESPACE = re.compile(rf"/|(/{_TOKEN})+")
_NAME = re.compile(rf"~|(~/|/)?{_TOKEN}(/{_TOKEN})*")
_TOKENS_RULE = "tokens of letters, digits and '_' that do not start with a digit, joined by single '/'"


@dataclass(frozen=True)
class Remap:
    """``[node:]match:=replacement`` of a topic or service; ``node`` limits it to nodes of that name."""

    match: str
    replacement: str
    node: str | None = None


def check_node_name(name: str) -> str:
    if not _NODE.fullmatch(name):
        rule = "a node name is letters, digits and '_' and does not start with a digit"
        raise InvalidNodeNameException(f"node name {name!r}", rule, "rename the node")
    return name


def check_namespace(namespace: str | None) -> str:
    """The namespace with its leading slash, ``/`` for none."""
    full = namespace or "/"
    full = full if full.startswith("/") else "/" + full
    if not _NAMESPACE.fullmatch(full):
        raise InvalidNamespaceException(f"namespace {namespace!r}", f"a namespace is {_TOKENS_RULE}", "write /like/this")
    return full


def qualify(node_name: str, namespace: str) -> str:
    """``/namespace/node_name``."""
    return f"{namespace.rstrip('/')}/{node_name}"


def expand(name: str, node_name: str, namespace: str, *, is_service: bool = False) -> str:
    """The absolute form of a relative, absolute or private (``~/x``) name."""
    if not _NAME.fullmatch(name):
        kind, error = (
            ("service", InvalidServiceNameException) if is_service else ("topic", InvalidTopicNameException)
        )  # fmt: skip
        rule = f"a {kind} name is {_TOKENS_RULE}, with '/' or '~/' in front if wanted"
        raise error(f"{kind} name {name!r}", rule, "write image_raw, /image_raw or ~/image_raw")
    if name.startswith("/"):
        return name
    if name.startswith("~"):
        return qualify(node_name, namespace) + name[1:]
    return f"{namespace.rstrip('/')}/{name}"


def resolve(
    name: str, node_name: str, namespace: str, remaps: Sequence[Remap] = (), *, is_service: bool = False
) -> str:
    """Expand ``name`` and apply the first remapping whose match, expanded for this node, is the same name."""
    full = expand(name, node_name, namespace, is_service=is_service)
    for rule in remaps:
        if rule.node not in (None, node_name):
            continue
        if expand(rule.match, node_name, namespace, is_service=is_service) == full:
            return expand(rule.replacement, node_name, namespace, is_service=is_service)
    return full
