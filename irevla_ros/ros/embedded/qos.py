"""Quality of service: the four policies that the embedded backend honours, and their form in liveliness tokens.

Zenoh matches any publisher with any subscription; DDS does not. History is KEEP_LAST only, because queues are bounded.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class HistoryPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    KEEP_LAST = 1
    KEEP_ALL = 2
    UNKNOWN = 3


class ReliabilityPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    RELIABLE = 1
    BEST_EFFORT = 2
    UNKNOWN = 3
    BEST_AVAILABLE = 4


class DurabilityPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    TRANSIENT_LOCAL = 1
    VOLATILE = 2
    UNKNOWN = 3
    BEST_AVAILABLE = 4


_SUPPORTED = {
    "history": (HistoryPolicy.KEEP_LAST,),
    "reliability": (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT),
    "durability": (DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL),
}


class InvalidQoSProfileException(Exception):
    """A profile lacks its depth or asks for a policy that the embedded backend does not have."""

    def __init__(self, *args: object) -> None:
        super().__init__("Invalid QoSProfile", *args)


class QoSProfile:
    """``QoSProfile(depth=1, reliability=..., durability=...)``; reliable and volatile unless said otherwise."""

    def __init__(self, **kwargs: Any) -> None:
        unknown = set(kwargs) - {*_SUPPORTED, "depth"}
        assert not unknown, f"Invalid arguments passed to constructor: {sorted(unknown)}"
        if "depth" not in kwargs:
            raise InvalidQoSProfileException("a depth is required: queues are bounded")
        self.depth = int(kwargs["depth"])
        if self.depth < 0:
            raise ValueError("history depth must be greater than or equal to zero")
        self.history = HistoryPolicy(kwargs.get("history", HistoryPolicy.KEEP_LAST))
        self.reliability = ReliabilityPolicy(kwargs.get("reliability", ReliabilityPolicy.RELIABLE))
        self.durability = DurabilityPolicy(kwargs.get("durability", DurabilityPolicy.VOLATILE))
        for policy, supported in _SUPPORTED.items():
            value = getattr(self, policy)
            if value not in supported:
                names = " or ".join(one.name for one in supported)
                raise InvalidQoSProfileException(f"{policy} {value.name}: the embedded backend has {names}")

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if isinstance(other, QoSProfile) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "QoSProfile(" + ", ".join(f"{name}={value!r}" for name, value in vars(self).items()) + ")"

    @property
    def transient_local(self) -> bool:
        return self.durability is DurabilityPolicy.TRANSIENT_LOCAL

    @property
    def reliable(self) -> bool:
        return self.reliability is ReliabilityPolicy.RELIABLE


# rmw_zenoh_cpp's defaults: a token leaves out what equals them.
DEFAULT_DEPTH = 42


def as_profile(qos_profile: QoSProfile | int) -> QoSProfile:
    """A profile from a profile or a depth. Depth 0 means the default depth, as it does in rmw_zenoh_cpp."""
    if isinstance(qos_profile, bool) or not isinstance(qos_profile, (QoSProfile, int)):
        raise TypeError(f"Expected QoSProfile or int, but received {type(qos_profile)!r}")
    profile = QoSProfile(depth=qos_profile) if isinstance(qos_profile, int) else qos_profile
    if profile.depth:
        return profile
    return QoSProfile(depth=DEFAULT_DEPTH, reliability=profile.reliability, durability=profile.durability)


def encode(profile: QoSProfile) -> str:
    """``reliability:durability:history,depth:deadline:lifespan:liveliness``, numbers of rmw, empty where default."""
    reliability = "" if profile.reliable else str(int(profile.reliability))
    durability = str(int(profile.durability)) if profile.transient_local else ""
    depth = "" if profile.depth == DEFAULT_DEPTH else str(profile.depth)
    return f"{reliability}:{durability}:,{depth}:,:,:,,"


SERVICES = QoSProfile(depth=10)
PARAMETERS = QoSProfile(depth=1000)
ROSOUT = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
CLOCK = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
