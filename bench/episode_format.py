"""Image encodings and rates of the spool: `python bench/episode_format.py` prints the tables of docs/episode-format.md.

Frames are of scripted episodes in our simulator, as they are (`sim`) and with camera-like noise of standard deviation 3
(`noise`), the hard case. One core; times are medians, of the processor where nothing else is said.
Results go to bench/results/episode_format.md and .json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from learning import headline, provenance, save
from simulation import table_of

from irevla_ros.core.types import ByteArray, Episode, EpisodeMeta, Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.sim.env import PandaEnv

STEPS = 25
COMMIT_EVERY = 100
LATENTS = (70, 64)
PNG_RUNS = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
ENCODINGS: dict[str, tuple[str, list[int]]] = {
    "PNG, OpenCV's defaults": (".png", []),
    "PNG, level 1": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    "PNG, level 1, run-length": (".png", PNG_RUNS),
    "WebP lossless": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
    "JPEG, quality 95 (lossy)": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]),
}


def frames(count: int, size: int, noise: float) -> ByteArray:
    """uint8 [count, size, size, 3] of scripted episodes of the demo suite, one task after the other."""
    env = PandaEnv("demo", image_size=size)
    rng = np.random.default_rng(0)
    found: list[ByteArray] = []
    episode = 0
    while len(found) < count:
        observed, _ = env.reset(seed=episode)
        episode += 1
        script, ended = env.expert(), False
        while not ended and len(found) < count:
            found.append(observed["front"])
            observed, _, terminated, truncated, _ = env.step(script.act())
            ended = terminated or truncated
    env.close()
    clean = np.stack(found)
    return (clean + rng.normal(scale=noise, size=clean.shape)).round().clip(0, 255).astype(np.uint8) if noise else clean


@dataclass(frozen=True)
class Cost:
    """Milliseconds on the processor, which a busy machine distorts little, and on the wall, disk included."""

    cpu_ms: float
    wall_ms: float

    def __str__(self) -> str:
        return f"{self.cpu_ms:.2f}, {self.wall_ms:.2f}"


def cost(call: Callable[[], Any], parts: int = 1) -> Cost:
    """Of one of the ``parts`` that the call does."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Cost(1e3 * (time.process_time() - cpu) / parts, 1e3 * (time.perf_counter() - wall) / parts)


def median(costs: Sequence[Cost]) -> Cost:
    return Cost(statistics.median(c.cpu_ms for c in costs), statistics.median(c.wall_ms for c in costs))


def measure_encoding(pictures: ByteArray, suffix: str, settings: list[int]) -> dict[str, float]:
    """Mean bytes and median processor milliseconds a frame."""
    sizes, encode, decode = [], [], []
    for picture in pictures:
        encoded = cv2.imencode(suffix, picture, settings)[1]
        sizes.append(len(encoded))
        encode.append(cost(lambda picture=picture: cv2.imencode(suffix, picture, settings)))
        decode.append(cost(lambda encoded=encoded: cv2.imdecode(encoded, cv2.IMREAD_COLOR)))
    return {"bytes": statistics.fmean(sizes), "encode_ms": median(encode).cpu_ms, "decode_ms": median(decode).cpu_ms}


def episodes(pictures: ByteArray, count: int, latents: bool) -> list[Episode]:
    """``count`` episodes of ``STEPS`` steps whose frames are taken from ``pictures`` in turn."""
    rng = np.random.default_rng(1)
    last = np.arange(STEPS) == STEPS - 1
    found = []
    for number in range(count):
        start = number * (STEPS + 1) % (len(pictures) - STEPS)
        action = rng.uniform(-1, 1, (STEPS, 5)).astype(np.float32)
        meta = EpisodeMeta(f"e{number:05d}", "press-red", "press the red button", Mode.TRAIN, number,
                           outcome=Outcome.SUCCESS, backbone_fingerprint="0123456789abcdef" if latents else "")  # fmt: skip
        found.append(Episode(
            meta, {"front": pictures[start : start + STEPS + 1]}, rng.normal(size=(STEPS + 1, 6)).astype(np.float32),
            np.arange(STEPS + 1, dtype=np.int64) * 100_000_000, action, action, action, np.zeros(STEPS, np.uint8),
            np.zeros(STEPS, np.float32), np.zeros(STEPS, np.int64), last.astype(np.float32), last, np.zeros(STEPS, np.bool_),
            rng.normal(size=(STEPS + 1, *LATENTS)).astype(np.float16) if latents else None))  # fmt: skip
    return found


def measure_spool(written: Sequence[Episode]) -> dict[str, Any]:
    """Costs of an episode, and bytes a step; what a group commit costs is shared by its episodes."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        durable, grouped = Spool(Path(folder) / "durable"), Spool(Path(folder) / "grouped")
        write = [cost(lambda e=e: durable.write_episode(e)) for e in written]
        group = []
        rest = iter(written)
        while batch := list(islice(rest, COMMIT_EVERY)):

            def commit(batch: Sequence[Episode] = batch) -> None:
                for episode in batch:
                    grouped.write_episode(episode, durable=False)
                grouped.commit()

            group.append(cost(commit, len(batch)))
        reader, blind = SpoolReader(durable.root), SpoolReader(durable.root)  # each checks the contents once
        listing = cost(reader.episodes, len(written))
        blind.episodes()
        whole = [cost(lambda name=name: reader.read(name)) for name in reader.ids()]
        partial = [cost(lambda name=name: blind.read(name, cameras=())) for name in blind.ids()]
        size = sum(path.stat().st_size for path in durable.root.iterdir())
    return {"write, durable": median(write), "write, group commit": median(group), "read": median(whole),
            "read without images": median(partial), "list": listing,
            "bytes a step": size / (len(written) * STEPS)}  # fmt: skip


def markdown(results: dict[str, Any]) -> str:
    text = f"# The episode format, measured\n\n{headline(results['machine'])}\nOpenCV {cv2.__version__}.\n\n"
    kinds = list(results["encodings"])
    rows: list[list[Any]] = [["raw", *(f"{results['raw_bytes'][kind]:,}" for kind in kinds)]]
    for name in ENCODINGS:
        cells = [results["encodings"][kind][name] for kind in kinds]
        rows.append([name, *(f"{c['bytes']:,.0f}, {c['encode_ms']:.3f}, {c['decode_ms']:.3f}" for c in cells)])
    text += table_of(["bytes, encode ms, decode ms a frame", *kinds], rows)
    text += (f"\nEpisodes of {STEPS} steps with one 64x64 camera, {results['episodes']} of each kind: ms an episode on the "
             f"processor, on the wall; group commit of {COMMIT_EVERY}.\n\n")  # fmt: skip
    table = [[kind, *(f"{cell:,.0f}" if isinstance(cell, float) else cell for cell in row.values())]
             for kind, row in results["spool"].items()]  # fmt: skip
    return text + table_of(["", *next(iter(results["spool"].values()))], table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=520, help="64x64 frames of each kind; a tenth at 480x480 (%(default)s)")
    parser.add_argument("--episodes", type=int, default=300, help="of each kind (%(default)s)")
    arguments = parser.parse_args()
    if arguments.frames < 10 * (STEPS + 2) or arguments.episodes < 1:
        parser.error(f"--frames is at least {10 * (STEPS + 2)}, --episodes at least 1")
    cv2.setNumThreads(1)
    arguments.threads = 1
    small, noisy = frames(arguments.frames, 64, 0.0), frames(arguments.frames, 64, 3.0)
    pictures = {"sim 64x64": small, "noise 64x64": noisy, "noise 480x480": frames(arguments.frames // 10, 480, 3.0)}
    kinds = {"sim": (small, False), f"sim, with latents {LATENTS[0]} x {LATENTS[1]}": (small, True), "noise": (noisy, False)}
    results: dict[str, Any] = {
        "machine": provenance(arguments),
        "episodes": arguments.episodes,
        "raw_bytes": {kind: int(found[0].size) for kind, found in pictures.items()},
        "encodings": {kind: {name: measure_encoding(found, *how) for name, how in ENCODINGS.items()}
                      for kind, found in pictures.items()},
        "spool": {kind: measure_spool(episodes(found, arguments.episodes, latents))
                  for kind, (found, latents) in kinds.items()},
    }  # fmt: skip
    text = markdown(results)
    results["spool"] = {kind: {name: asdict(cell) if isinstance(cell, Cost) else cell for name, cell in row.items()}
                        for kind, row in results["spool"].items()}  # fmt: skip
    save("episode_format", text, results)


if __name__ == "__main__":
    main()
