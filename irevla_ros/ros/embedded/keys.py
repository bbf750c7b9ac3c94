"""Key expressions of rmw_zenoh_cpp, as its design document gives them: topics, services and liveliness tokens.

    topic or service   <domain>/<name>/<type>/<type hash>
    node token         @ros2_lv/<domain>/<session>/<node id>/<node id>/NN/<enclave>/<namespace>/<node>
    endpoint token     @ros2_lv/<domain>/<session>/<node id>/<id>/<MP|MS|SS|SC>/<enclave>/<namespace>/<node>
                       /<name>/<type>/<type hash>/<qos>

In tokens every slash within a part is written ``%``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum

ADMIN_SPACE = "@ros2_lv"
_NODE_PARTS, _ENDPOINT_PARTS = 9, 13


class Kind(Enum):
    NODE = "NN"
    PUBLISHER = "MP"
    SUBSCRIPTION = "MS"
    SERVICE = "SS"
    CLIENT = "SC"


@dataclass(frozen=True)
class Endpoint:
    """What a topic or service is called, carries and promises; ``qos`` in the form of ``qos.encode``."""

    name: str  # absolute
    type_name: str  # such as std_msgs/msg/String
    type_hash: str
    qos: str

    def key(self, domain: int) -> str:
        return f"{domain}/{self.name.strip('/')}/{mangled_type(self.type_name)}/{self.type_hash}"


@dataclass(frozen=True)
class Entity:
    """A node, or an endpoint of a node, as its liveliness token says."""

    kind: Kind
    domain: int
    session: str
    node_id: int
    entity_id: int
    namespace: str  # "/" or "/like/this"
    node_name: str
    endpoint: Endpoint | None = None

    def token(self) -> str:
        parts = [
            ADMIN_SPACE, str(self.domain), self.session, str(self.node_id), str(self.entity_id), self.kind.value,
            "%", _mangle(self.namespace), self.node_name,
        ]  # fmt: skip
        if self.endpoint is not None:
            one = self.endpoint
            parts += [_mangle(one.name), mangled_type(one.type_name), one.type_hash, one.qos]
        return "/".join(parts)

    def gid(self) -> bytes:
        """16 bytes that are this entity's alone; to receivers they are opaque."""
        return hashlib.blake2b(self.token().encode(), digest_size=16).digest()


def parse_token(token: str) -> Entity | None:
    """The entity of a token, or None for what is not one; later versions may append parts, which are left out."""
    parts = token.split("/")
    try:
        kind = Kind(parts[5])
        if parts[0] != ADMIN_SPACE or len(parts) < (_NODE_PARTS if kind is Kind.NODE else _ENDPOINT_PARTS):
            return None
        endpoint = None
        if kind is not Kind.NODE:
            endpoint = Endpoint(_demangle(parts[9]), demangled_type(parts[10]), parts[11], parts[12])
        return Entity(
            kind, int(parts[1]), parts[2], int(parts[3]), int(parts[4]), _demangle(parts[7]), parts[8], endpoint
        )
    except (ValueError, IndexError):
        return None


def all_tokens(domain: int) -> str:
    """The key expression that covers the tokens of a domain."""
    return f"{ADMIN_SPACE}/{domain}/**"


def mangled_type(type_name: str) -> str:
    """``std_msgs/msg/String`` -> ``std_msgs::msg::dds_::String_``."""
    package, kind, name = type_name.split("/")
    return f"{package}::{kind}::dds_::{name}_"


def demangled_type(mangled: str) -> str:
    """The inverse; a type that is not mangled so is returned as it is."""
    parts = mangled.split("::")
    if len(parts) != 4 or parts[2] != "dds_" or not parts[3].endswith("_"):
        return mangled
    return f"{parts[0]}/{parts[1]}/{parts[3][:-1]}"


def _mangle(name: str) -> str:
    return name.replace("/", "%")


def _demangle(name: str) -> str:
    return name.replace("%", "/")
