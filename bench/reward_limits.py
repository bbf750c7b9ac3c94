"""What limits the success classifier: python bench/reward_limits.py, on the episodes of bench/reward.py.

The simulator runs every episode again and tells what each observation really shows. With that as labels, heads learn from 20
successes and 20 failures and from five times as many, on the latents, on what the reader of places makes of them, and on where
things are, exactly and with an error. All are tested on the second half of the held-out episodes; on a real arm nobody could.
Writes bench/results/reward_limits.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from simulation import RESULTS, machine
from torch import Tensor, nn

from irevla_ros.core.stats import Rate
from irevla_ros.core.types import Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.jobs.graph_config import shipped_policy
from irevla_ros.jobs.reward_eval import lasting, percent
from irevla_ros.policy.checkpoint import load_vla
from irevla_ros.policy.place_reader import PlaceReader, load_reader
from irevla_ros.rewards.course import follow
from irevla_ros.rewards.success_head import CourseNet, PairNet
from irevla_ros.sim.env import PandaEnv
from irevla_ros.sim.objects import COLOURS
from irevla_ros.sim.suite import load_suite
from irevla_ros.sim.tasks import Press

HOLD, STEPS, BATCH = 2, 600, 128
HALF = 100  # successes and failures of the held-out ones to learn from; the rest is tested
ERRORS_MM = (0, 5, 10, 20)


@dataclass(frozen=True)
class Seen:
    """All observations of the episodes of one spool and task, one after the other; ``lengths``, ``success`` by episode.

    latents [N, m, d], proprio [N, P], images [N, H, W, 3]; ``shows``: success as the simulator sees it; tip, place [N, 3]: of
    the tip and of the target, m. first: the row of the episode's first observation.
    """

    latents: Tensor
    proprio: Tensor
    images: np.ndarray
    shows: np.ndarray
    tip: np.ndarray
    place: np.ndarray
    lengths: np.ndarray
    success: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        return np.cumsum([0, *self.lengths[:-1]])

    @property
    def first(self) -> np.ndarray:
        return np.repeat(self.starts, self.lengths)

    def rows(self, low: int, high: int) -> Tensor:
        """Of the successes and the failures number ``low`` to ``high`` - 1."""
        chosen = np.concatenate([np.flatnonzero(self.success == kind)[low:high] for kind in (True, False)])
        return torch.from_numpy(np.concatenate([self.starts[one] + np.arange(self.lengths[one]) for one in chosen]))

    def mistaken(self, logits: np.ndarray, low: int) -> Rate:
        """Failures from number ``low`` on that reach what 90 % of the successes reach."""
        held = {kind: [lasting(logits[self.starts[one] : self.starts[one] + self.lengths[one]], HOLD)
                       for one in np.flatnonzero(self.success == kind)[low:]] for kind in (True, False)}  # fmt: skip
        threshold = sorted(held[True])[len(held[True]) // 10]
        return Rate(sum(one >= threshold for one in held[False]), len(held[False]))


def look(spool: Path, task: str, cache: Path) -> Seen:
    """Run the episodes again, which the simulator does exactly; kept in ``cache``."""
    if not cache.is_file():
        reader, env = SpoolReader(spool), PandaEnv("demo", image_size=8)
        columns: dict[str, list[np.ndarray]] = {name: [] for name in Seen.__dataclass_fields__}
        for record in reader.episodes(task=task):
            episode = reader.read(record.episode_id, cameras=("front",))
            env.reset(seed=episode.meta.seed, options={"task": task})
            shows, tips, places = [], [], []
            for action in (None, *episode.proposed):
                if action is not None:
                    env.step(action)
                assert env.task is not None
                target = env.task.target
                shows.append(env.task.succeeded(env.world))
                tips.append(env.world.arm.tip()[0])
                places.append(np.array([*target.xy, 0.03]) if isinstance(env.task, Press) else env.world.position(target.body))
            assert episode.latents is not None
            values = (episode.latents, episode.proprio, episode.images["front"], shows, tips, places, [len(shows)],
                      [episode.meta.outcome is Outcome.SUCCESS])  # fmt: skip
            for column, value in zip(columns.values(), values, strict=True):
                column.append(np.asarray(value))
        env.close()
        np.savez(cache, **{name: np.concatenate(column) for name, column in columns.items()})
    with np.load(cache) as kept:
        found = {name: kept[name] for name in kept.files}
    return Seen(torch.from_numpy(found.pop("latents")), torch.from_numpy(found.pop("proprio")), **found)


def descend(net: nn.Module, loss_of: Callable[[], Tensor], rate: float = 1e-3) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()
        schedule.step()


def balanced(labels: Tensor, rows: Tensor) -> Tensor:
    weights = torch.where(labels[rows] > 0, 1 / labels[rows].sum(), 1 / (1 - labels[rows]).sum())
    return rows[torch.multinomial(weights, BATCH, replacement=True)]


def on_latents(learned: Seen, rows: Tensor, tested: Seen) -> np.ndarray:
    """Logits of all observations of ``tested`` by the head for backbones without a reader."""
    def inputs(seen: Seen, of: Tensor) -> tuple[Tensor, ...]:
        first = torch.from_numpy(seen.first)[of]
        return seen.latents[of].float(), seen.latents[first].float(), seen.proprio[of], seen.proprio[first]

    torch.manual_seed(0)
    return learn(PairNet(learned.latents.shape[2], learned.proprio.shape[1]), inputs, learned, rows, tested)


def on_course(reader: PlaceReader, learned: Seen, rows: Tensor, tested: Seen) -> np.ndarray:
    """As ``on_latents``, by the head behind ``reader``."""
    features = {id(seen): features_of(reader, seen) for seen in (learned, tested)}

    def inputs(seen: Seen, of: Tensor) -> tuple[Tensor, ...]:
        return features[id(seen)][of], torch.zeros(len(of), dtype=torch.long)

    torch.manual_seed(0)
    return learn(CourseNet(1), inputs, learned, rows, tested)


def features_of(reader: PlaceReader, seen: Seen) -> Tensor:
    rows: list[Tensor] = []
    for start, length in zip(seen.starts, seen.lengths, strict=True):
        track = None
        for row in range(start, start + length):
            track, features = follow(reader, seen.latents[row : row + 1], seen.proprio[row : row + 1], track)
            rows.append(features)
    return torch.cat(rows)


def learn(net: PairNet | CourseNet, inputs: Callable[[Seen, Tensor], tuple[Tensor, ...]], learned: Seen, rows: Tensor,
          tested: Seen) -> np.ndarray:  # fmt: skip
    labels = torch.from_numpy(learned.shows).float()

    def loss() -> Tensor:
        batch = balanced(labels, rows)
        return F.binary_cross_entropy_with_logits(net(*net.noisy(*inputs(learned, batch))), labels[batch])

    descend(net, loss, net.rate)
    net.eval()
    with torch.inference_mode():
        return torch.cat([net(*inputs(tested, part)) for part in torch.arange(len(tested.shows)).split(512)]).numpy()


def on_places(seen: Seen, rows: Tensor, error_mm: float) -> np.ndarray:
    """As ``on_latents``, from where tip and target are and were; the target's place has a normal error, new in each observation
    where the target moves."""
    torch.manual_seed(0)
    rng, first = np.random.default_rng(0), seen.first
    moves = bool(np.ptp(seen.place[: seen.lengths[0], 0]) > 0)
    at_first = rng.normal(0, error_mm / 1000, (len(first), 2))[first]
    then = seen.place[first, :2] + at_first
    now = seen.place[:, :2] + (rng.normal(0, error_mm / 1000, (len(first), 2)) if moves else at_first)
    columns = (30 * (seen.tip[:, :2] - now), 60 * (seen.tip[:, 2:] - 0.03), seen.proprio[:, 3:].numpy(), 20 * (now - then))
    inputs = torch.from_numpy(np.concatenate(columns, axis=1)).float()
    net = nn.Sequential(nn.Linear(inputs.shape[1], 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))
    labels = torch.from_numpy(seen.shows).float()

    def loss() -> Tensor:
        batch = balanced(labels, rows)
        return F.binary_cross_entropy_with_logits(net(inputs[batch])[:, 0], labels[batch])

    descend(net, loss, rate=3e-3)
    with torch.inference_mode():
        return np.asarray(net(inputs)[:, 0].numpy())


def place_errors(seen: Seen, colour: str, split: int, reader: PlaceReader) -> tuple[float, float]:
    """Median error (mm) of where the target first is: by its colour in the picture, and by ``reader`` from one observation."""
    starts, hue = seen.starts, np.array(COLOURS[colour][:3])
    tested = np.isin(starts, seen.rows(split, len(starts)).numpy())
    images = seen.images[starts].astype(np.float64)
    alike = (images @ hue / np.linalg.norm(hue) / (np.linalg.norm(images, axis=3) + 1e-6) > 0.985) & (images.sum(3) > 80)
    axis, count = np.arange(images.shape[1]), alike.sum((1, 2)).clip(1)
    x, y = (alike * axis).sum((1, 2)) / count, (alike * axis[:, None]).sum((1, 2)) / count
    terms, places = np.stack([np.ones_like(x), x, y, x * y, x**2, y**2], 1), seen.place[starts, :2]
    by_colour = terms @ np.linalg.lstsq(terms[~tested], places[~tested], rcond=None)[0] - places
    by_reader = reader(seen.latents[starts].float(), seen.proprio[starts])[0].numpy() - places
    return _median_mm(by_colour[tested]), _median_mm(by_reader[tested])


def _median_mm(errors: np.ndarray) -> float:
    return float(np.median(1000 * np.linalg.norm(errors, axis=1)))


def report(folder: Path, task: str, colour: str, reader: PlaceReader) -> list[str]:
    few, many = (look(folder / part, task, folder / f"limits-{part}-{task}.npz") for part in ("train", "heldout"))
    ends = (many.starts + many.lengths - 1)[many.success]
    shown = [f"{100 * many.shows[ends - back].mean():.0f} % at {back}" for back in range(8)]
    by_colour, by_reader = place_errors(many, colour, HALF, reader)
    rows = many.rows(0, HALF)
    found = [
        ("20 + 20 episodes, latents", many.mistaken(on_latents(few, few.rows(0, 20), many), HALF)),
        (f"{HALF} + {HALF} episodes, latents", many.mistaken(on_latents(many, rows, many), HALF)),
        ("20 + 20 episodes, reader", many.mistaken(on_course(reader, few, few.rows(0, 20), many), HALF)),
        (f"{HALF} + {HALF} episodes, reader", many.mistaken(on_course(reader, many, rows, many), HALF)),
        *((f"{HALF} + {HALF} episodes, true places, off by {error} mm", many.mistaken(on_places(many, rows, error), HALF))
          for error in ERRORS_MM),
    ]  # fmt: skip
    return [
        f"## {task}", "",
        f"Share of the successes that show it so many observations before their end: {', '.join(shown)}.", "",
        f"Where the target first is, median error: {by_colour:.1f} mm by its colour in the picture, {by_reader:.1f} mm by the "
        "shipped reader of the latents.", "",
        "| learned from the simulator's own labels | failures above the threshold of 90 % recall |", "|---|---|",
        *(f"| {name} | {percent(rate)} |" for name, rate in found), "",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-reward"), help="that of bench/reward.py (%(default)s)")
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    vla = load_vla(shipped_policy())[0]
    reader = load_reader(shipped_policy(), vla.backbone.fingerprint(), vla.backbone.latent_shape[1])
    assert reader is not None
    lines = ["# What limits the success classifier", "", "`python bench/reward_limits.py`, on the episodes of `python "
             f"bench/reward.py`; {HOLD} observations in a row; intervals are Wilson's at 95 %.", ""]  # fmt: skip
    for spec in reversed(load_suite("demo").rl):
        lines += report(folder, spec.name, spec.colour, reader)
    text = "\n".join([*lines, ", ".join(f"{key} {value}" for key, value in machine().items())])
    (RESULTS / "reward_limits.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
