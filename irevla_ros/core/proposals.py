"""What policy and script want to do, and which of it is due."""

from __future__ import annotations

from collections import Counter

from irevla_ros.core.arbiter_config import ArbiterConfig
from irevla_ros.core.arbiter_step import Hold
from irevla_ros.core.chunks import ActionChunk, ChunkBuffer, Due, Gap
from irevla_ros.core.messages import MessageError
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import ControlSource

POLICY, SCRIPT = ControlSource.POLICY, ControlSource.SCRIPT
_HOLDS = {
    Gap.NONE: Hold.NO_CHUNK,
    Gap.WAITING: Hold.WAITING,
    Gap.EXHAUSTED: Hold.EXHAUSTED,
    Gap.STALE: Hold.OBSERVATION_STALE,
    Gap.AHEAD: Hold.OBSERVATION_AHEAD,
}


class Proposals:
    """A chunk buffer for each of the two. ``floor_ns``: a chunk must answer a later observation, the newest thing seen when
    the human let go; ``answered_ns``: the observation that the last step answered."""

    def __init__(self, spec: ActionSpec, config: ArbiterConfig) -> None:
        self._spec, self._config = spec, config
        self._chunks = {source: ChunkBuffer(config.chunk_age_ns, config.ahead_ns) for source in (POLICY, SCRIPT)}
        self._arrived_ns = {POLICY: -1, SCRIPT: -1}  # wall
        self._rejected: set[ControlSource] = set()  # whose last chunk was
        self._counts: Counter[str] = Counter()
        self.floor_ns = self.answered_ns = -1

    @property
    def counts(self) -> dict[str, int]:
        found = dict(self._counts)
        for source, chunks in self._chunks.items():
            found |= {f"{source.name.lower()}.{why}": n for why, n in chunks.counts.items()}
        return found

    def offer(self, source: ControlSource, chunk: ActionChunk, human_held: bool, now_ns: int, wall_ns: int) -> bool:
        """False when refused: not made for this arm, or its observation is late."""
        try:
            chunk.require(self._spec, self._config.period_ns, self._config.longest_chunk)
        except MessageError:
            self.reject(source)
            return False
        if not human_held and chunk.stamp_ns <= max(self.floor_ns, self.answered_ns):
            self._counts[f"{source.name.lower()}.answered"] += 1
            return False
        if not self._chunks[source].put(chunk, now_ns):
            return False
        self._arrived_ns[source] = wall_ns
        self._rejected.discard(source)
        return True

    def reject(self, source: ControlSource) -> None:
        """A message of this source could not be read: what it said before is void."""
        self._counts[f"{source.name.lower()}.rejected"] += 1
        self._rejected.add(source)

    def due(self, source: ControlSource, now_ns: int, wall_ns: int) -> Due | Hold:
        if source in self._rejected:
            return Hold.REJECTED
        chunks = self._chunks[source]
        if chunks.chunk is None:
            return Hold.NO_CHUNK if self.floor_ns < 0 else Hold.AWAITING_FRESH
        if not 0 <= wall_ns - self._arrived_ns[source] <= self._config.command_ns:
            return Hold.SILENT
        due = chunks.take(now_ns)
        return due if isinstance(due, Due) else _HOLDS[due]

    def drop(self) -> None:
        """Forget what is left; older ones stay refused."""
        for chunks in self._chunks.values():
            chunks.drop()

    def clear(self, used_up_only: bool = False) -> None:
        """As ``drop``, and the next chunk may have any stamp. ``used_up_only``: where there is nothing to drop."""
        for chunks in self._chunks.values():
            if not used_up_only or chunks.chunk is None:
                chunks.clear()
