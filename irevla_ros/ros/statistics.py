"""What passed through a node's endpoints, in numbers that a node can publish in its diagnostics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TopicStatistics:
    """Counts since the endpoint was made; None where the backend cannot tell.

    ``lost`` are gaps in the senders' numbering: messages that never arrived. ``dropped`` arrived while the queue was
    full. ``malformed`` arrived but could not be read.
    """

    topic: str
    kind: str  # publisher, subscription
    type_name: str
    messages: int  # published, or handed to the callback
    lost: int | None = None
    dropped: int | None = None
    malformed: int | None = None
