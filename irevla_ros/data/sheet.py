"""An episode at a glance: frames over time, and below them the executed actions, who commanded them, and the reward, as a
picture or a film.

OpenCV only.
"""

from __future__ import annotations

import cv2
import numpy as np

from irevla_ros.core.types import ByteArray, ControlSource, Episode, FloatArray
from irevla_ros.data.container import AnyArray

COLUMNS, TILE, GAP, MARGIN, MAX_FRAMES = 8, 128, 4, 12, 24
WIDTH = COLUMNS * (TILE + GAP) - GAP + 2 * MARGIN
PLOT_HEIGHT, WHO_HEIGHT, REWARD_HEIGHT, LEGEND, CAPTION, VIEW = 220, 22, 90, 130, 26, 192
INK, FAINT, PAPER = (30, 30, 30), (210, 210, 210), 255
PALETTE = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (90, 90, 90))
TICKS = (*(digit * 10**power for power in range(6) for digit in (1, 2, 5)), 10**9)
WHO = {ControlSource.POLICY: (23, 190, 207), ControlSource.HUMAN: (227, 119, 194), ControlSource.SCRIPT: (150, 150, 150)}


def contact_sheet(episode: Episode) -> ByteArray:
    """uint8 RGB [h, WIDTH, 3]: for each camera at most 24 frames, evenly spaced, first and last included; the line below a
    frame says who commanded the step that follows."""
    meta = episode.meta
    title = _strip(WIDTH, 52)
    _text(title, f"{meta.episode_id}   {meta.instruction}", (MARGIN, 22), 0.6)
    ended = f"{len(episode)} steps, {meta.outcome.value}, ended by {meta.termination_reason.value.replace('_', ' ')}"
    more = "".join([", scene disturbed by a person" if meta.perturbed else "", *(f"; {defect}" for defect in meta.defects)])
    _text(title, f"{meta.mode.value}, task {meta.task}, {ended}{more}", (MARGIN, 44), 0.45)
    parts = [title]
    for camera, frames in episode.images.items():
        parts += [_caption(WIDTH, f"camera {camera} (number: observation)"), _grid(frames, episode.source)]
    return np.concatenate([*parts, *_traces(episode, WIDTH)])


def film(episode: Episode) -> ByteArray:
    """uint8 RGB [T + 1, h, w, 3]: all cameras side by side, and below them the traces with a line at the present step."""
    views = [_enlarged(frames) for frames in episode.images.values()]
    width = max(sum(view.shape[2] for view in views), COLUMNS * TILE // 2) + 2 * MARGIN
    height = max((view.shape[1] for view in views), default=0)
    traces, edges = np.concatenate(_traces(episode, width)), _edges(len(episode), width)
    pictures = np.full((len(episode) + 1, height + len(traces), width, 3), PAPER, np.uint8)
    left = MARGIN
    for view in views:
        pictures[:, : view.shape[1], left : left + view.shape[2]] = view
        left += view.shape[2]
    pictures[:, height:] = traces
    for picture, x in zip(pictures, edges, strict=True):
        cv2.line(picture, (int(x), height + CAPTION), (int(x), len(picture) - 1), INK, 1)
    return pictures


def _enlarged(frames: ByteArray) -> ByteArray:
    """By a whole number, to at least VIEW pixels of height."""
    scale = max(1, -(-VIEW // frames.shape[1]))
    return frames.repeat(scale, axis=1).repeat(scale, axis=2)


def _traces(episode: Episode, width: int) -> list[ByteArray]:
    """The executed actions, who commanded, and the reward over all steps, each with its caption."""
    names = episode.meta.action_names or tuple(f"action {k}" for k in range(episode.executed.shape[1]))
    low, high = min(0.0, float(episode.reward.min())), max(1.0, float(episode.reward.max()))
    return [
        _caption(width, "executed action, normalised, by step"),
        _plot(episode.executed.T, names, PLOT_HEIGHT, -1.05, 1.05, width),
        *_who(episode.source, width),
        _caption(width, "reward by step"),
        _plot(episode.reward[None], ("reward",), REWARD_HEIGHT, low - 0.05, high + 0.05, width),
    ]


def _grid(frames: ByteArray, source: ByteArray) -> ByteArray:
    chosen = np.unique(np.linspace(0, len(frames) - 1, MAX_FRAMES).round().astype(int))
    height = max(1, round(TILE * frames.shape[1] / frames.shape[2]))
    method = cv2.INTER_AREA if frames.shape[2] > TILE else cv2.INTER_NEAREST
    rows = -(-len(chosen) // COLUMNS)
    grid = _strip(WIDTH, rows * (height + GAP))
    for place, t in enumerate(chosen):
        tile = cv2.resize(frames[t], (TILE, height), interpolation=method)
        (text, _), _ = cv2.getTextSize(str(t), cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
        cv2.rectangle(tile, (0, 0), (text + 7, 16), INK, cv2.FILLED)  # readable on any picture
        cv2.putText(tile, str(t), (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (PAPER,) * 3, 1, cv2.LINE_AA)
        top, left = place // COLUMNS * (height + GAP), MARGIN + place % COLUMNS * (TILE + GAP)
        grid[top : top + height, left : left + TILE] = tile
        if t < len(source):
            grid[top + height : top + height + GAP - 1, left : left + TILE] = WHO[ControlSource(source[t])]
    return grid


def _plot(traces: FloatArray, names: tuple[str, ...], height: int, low: float, high: float, width: int) -> ByteArray:
    """traces [n, T], drawn as steps: a value holds from its step to the next."""
    strip = _strip(width, height)
    top, bottom = 6, height - 22
    steps = traces.shape[1]
    edges = _edges(steps, width)
    left, right = int(edges[0]), int(edges[-1])

    def y(value: float) -> int:
        return round(bottom - float((np.clip(value, low, high) - low) / (high - low)) * (bottom - top))

    for value in (v for v in (-1.0, 0.0, 1.0) if low <= v <= high):
        cv2.line(strip, (left, y(value)), (right, y(value)), FAINT, 1)
        _text(strip, f"{value:g}", (MARGIN, y(value) + 4), 0.4)
    for t in range(0, steps, next(n for n in TICKS if steps <= 12 * n)):
        _text(strip, str(t), (int(edges[t]), height - 6), 0.4)
    for k, (trace, name) in enumerate(zip(traces, names, strict=False)):
        colour = PALETTE[k % len(PALETTE)]
        shift = k - len(names) // 2  # traces of equal value stay visible beside each other
        levels = [y(float(value)) + shift for value in np.nan_to_num(trace)]
        points = [(int(x), level) for t, level in enumerate(levels) for x in (edges[t], edges[t + 1])]
        cv2.polylines(strip, [np.array(points, np.int32)], False, colour, 1, cv2.LINE_AA)
        cv2.line(strip, (right + 10, 14 + 18 * k), (right + 30, 14 + 18 * k), colour, 2)
        _text(strip, name, (right + 36, 18 + 18 * k), 0.42)
    return strip


def _who(source: ByteArray, width: int) -> list[ByteArray]:
    """A caption that names the colours of ``WHO``, and a strip with them by step."""
    caption, strip, edges = _caption(width, "commanded by"), _strip(width, WHO_HEIGHT), _edges(len(source), width)
    for k, one in enumerate(sorted(set(map(ControlSource, source)))):
        at = MARGIN + 110 + 80 * k
        cv2.rectangle(caption, (at, 9), (at + 12, 18), WHO[one], cv2.FILLED)
        _text(caption, one.name.lower(), (at + 18, 18), 0.42)
    for left, right, by in zip(edges, edges[1:], source, strict=False):
        strip[2:-6, left:right] = WHO[ControlSource(by)]
    return [caption, strip]


def _edges(steps: int, width: int) -> AnyArray:
    """Where each step begins, and the last one ends, in pixels from the left."""
    return np.linspace(MARGIN + 40, width - LEGEND, steps + 1).round().astype(int)


def _caption(width: int, text: str) -> ByteArray:
    strip = _strip(width, CAPTION)
    _text(strip, text, (MARGIN, 18), 0.45)
    return strip


def _strip(width: int, height: int) -> ByteArray:
    return np.full((height, width, 3), PAPER, np.uint8)


def _text(image: ByteArray, text: str, at: tuple[int, int], scale: float) -> None:
    plain = text.encode("ascii", "replace").decode()  # OpenCV's fonts have no other letters
    cv2.putText(image, plain, at, cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)
