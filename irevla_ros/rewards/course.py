"""What an episode has shown until now, in a few numbers: where the named thing was and is, and the arm beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from irevla_ros.policy.place_reader import CAP_M, PlaceReader

FEATURES = 12
BEFORE = 3  # observations of an episode in which nothing has moved yet
STEP_M = 0.04  # that a thing moves between two observations
NEAR_M = 0.03


@dataclass(frozen=True)
class Track:
    """After ``seen`` observations: the thing is at ``now`` [1, 2] with variance [1, 1], and was first at ``first`` [1, 2], a
    mean of total ``weight`` [1, 1] (m)."""

    seen: int
    now: Tensor
    variance: Tensor
    first: Tensor
    weight: Tensor


def follow(reader: PlaceReader, latents: Tensor, proprio: Tensor, track: Track | None) -> tuple[Track, Tensor]:
    """One more observation, latents [1, m, d] and proprioception [1, P]; ``track`` None for the first of an episode.

    Returns the track until now and the features [1, FEATURES]; distances are in units of 3 cm. The present place is a Kalman
    filter's for a random walk, the first one the mean by precision of BEFORE readings.
    """
    place, error = reader(latents.float(), proprio, track.now if track else None)
    spread = error[:, None] ** 2
    if track is None:
        track = Track(1, place, spread, place, 1 / spread)
    else:
        expected = track.variance + STEP_M**2
        gain = expected / (expected + spread)
        weight = 1 / spread if track.seen < BEFORE else torch.zeros_like(spread)
        total = track.weight + weight
        track = Track(track.seen + 1, track.now + gain * (place - track.now), expected * (1 - gain),
                      track.first + weight / total * (place - track.first), total)  # fmt: skip
    tip = reader.tip(proprio)
    beside, moved, behind = ((one / NEAR_M).clamp(-6.0, 6.0) for one in (
        tip[:, :2] - track.first, track.now - track.first, tip[:, :2] - track.now))  # fmt: skip
    return track, torch.cat([
        beside, beside.norm(dim=1, keepdim=True), ((tip[:, 2:] - CAP_M) / 0.02).clamp(-3.0, 4.0), 2 * proprio[:, 4:6],
        moved, behind, 0.5 * torch.log(error / 0.02)[:, None],
        reader.pressed(proprio, track.first)[:, None].clamp(-12.0, 8.0) / 3,
    ], dim=1)  # fmt: skip
