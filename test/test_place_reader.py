"""The reader of places: what an episode has shown by hand, what the shipped one finds, its file and its command."""

from __future__ import annotations

import math
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from irevla_ros.cli.main import main
from irevla_ros.core.errors import CheckpointError
from irevla_ros.core.spec import ProprioSpec
from irevla_ros.core.types import Observation
from irevla_ros.jobs.graph_config import shipped_policy
from irevla_ros.jobs.reader_training import encode_touches, patches
from irevla_ros.jobs.reward_data import FrameLabels, LabelledEpisode
from irevla_ros.jobs.reward_eval import probabilities, rates, score_all
from irevla_ros.jobs.reward_training import RewardTraining, train_heads
from irevla_ros.policy.checkpoint import load_vla
from irevla_ros.policy.place_reader import READER, PlaceReader, load_reader
from irevla_ros.rewards.classifier import FILE
from irevla_ros.rewards.course import FEATURES, follow
from irevla_ros.rewards.success_head import load_success_heads, save_success_heads
from irevla_ros.sim.touches import touches

UNSEEN_SEED = 987_654
WIDTH = 64


@pytest.fixture(scope="module")
def reader() -> PlaceReader:
    torch.set_num_threads(1)
    folder = shipped_policy()
    found = load_reader(folder, load_vla(folder)[0].backbone.fingerprint(), WIDTH)
    assert found is not None
    return found


def proprio_at(*tips: tuple[float, float, float]) -> torch.Tensor:
    return torch.from_numpy(np.stack([ProprioSpec().to_normalised(np.array([*tip, 1, 0, 0.04], np.float32)) for tip in tips]))


class Told(PlaceReader):
    """Says these places (m) with these standard errors (m), one after the other."""

    def __init__(self, places: list[list[float]], errors: list[float]) -> None:
        super().__init__(WIDTH)
        self.told = iter(zip(places, errors, strict=True))
        self.asked: list[list[float] | None] = []

    def forward(
        self, latents: torch.Tensor, proprio: torch.Tensor, beside: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked.append(None if beside is None else [round(value, 4) for value in beside[0].tolist()])
        place, error = next(self.told)
        return torch.tensor([place]), torch.tensor([error])


def test_the_first_place_is_averaged_and_then_stands_while_the_present_one_is_tracked() -> None:
    """Weights 1, 1, 4: first at 0.40, 0.405, (0.40 + 0.41 + 4 * 0.42) / 6 = 0.415 and there it stays.

    Now, of variance 0.02^2 at first: expected 0.0004 + 0.0016 = 0.002, gain 0.002 / 0.0024 = 5/6, variance 0.002 / 6; then
    expected 0.0019333, gain 0.0019333 / 0.0020333 = 0.95082.
    """
    reader = Told([[0.40, 0.0], [0.41, 0.0], [0.42, 0.0], [0.53, 0.0]], [0.02, 0.02, 0.01, 0.01])
    proprio = torch.from_numpy(ProprioSpec().to_normalised(np.array([[0.445, 0.03, 0.05, 1, 0, 0.04]], np.float32)))
    track, rows = None, []
    for _ in range(4):
        track, features = follow(reader, torch.zeros(1, 64, WIDTH), proprio, track)
        rows.append(features[0].tolist())
    assert len(rows[0]) == FEATURES
    assert [row[0] for row in rows] == pytest.approx([0.045 / 0.03, 0.04 / 0.03, 0.03 / 0.03, 0.03 / 0.03], abs=1e-4)
    assert [row[1] for row in rows] == pytest.approx([1.0] * 4, abs=1e-4)
    assert rows[3][2] == pytest.approx(math.sqrt(2), abs=1e-4)
    assert [row[3] for row in rows] == pytest.approx([1.0] * 4, abs=1e-4)  # 2 cm above what is touched
    second = 0.40 + 0.01 * 5 / 6
    third = second + 0.95082 * (0.42 - second)
    assert [row[6] for row in rows[:3]] == pytest.approx([0, (second - 0.405) / 0.03, (third - 0.415) / 0.03], abs=1e-3)
    assert rows[2][8] == pytest.approx((0.445 - third) / 0.03, abs=1e-3)
    assert [row[10] for row in rows[1:3]] == pytest.approx([0, 0.5 * math.log(0.5)], abs=1e-4)
    assert reader.asked[:3] == [None, [0.4, 0.0], [round(second, 4), 0.0]]  # the next reading is looked for there


def test_a_thing_is_looked_for_where_it_was() -> None:
    """Two alike: the reader prefers one by a little, but it was the other."""
    torch.manual_seed(0)
    reader = PlaceReader(WIDTH).eval().requires_grad_(False)
    reader.prior[9], reader.prior[54] = 50.0, 49.0
    reader.anchors[9], reader.anchors[54] = torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0])
    reader.place[-1].weight.zero_()
    reader.place[-1].bias.zero_()
    latents, proprio = torch.zeros(1, 64, WIDTH), torch.zeros(1, 6)
    torch.testing.assert_close(reader(latents, proprio)[0], torch.tensor([[0.38, -0.15]]))
    torch.testing.assert_close(reader(latents, proprio, torch.tensor([[0.57, 0.14]]))[0], torch.tensor([[0.58, 0.15]]))


def test_the_shipped_reader_finds_what_the_instruction_names(reader: PlaceReader) -> None:
    """Before the arm is there: 3 mm in the middle, at 7.6 mm a pixel. Another instruction, another place."""
    vla = load_vla(shipped_policy())[0].eval()
    scenes = list(islice(touches(UNSEEN_SEED, 64), 480))
    before = [one for number, one in enumerate(scenes) if number % 12 < 2]  # the first picture of six, asked twice
    found = encode_touches(before, len(before), vla.backbone, lambda done: None)
    error = 1000 * (reader(found.latents.float(), found.proprio)[0] - found.place).norm(dim=1)
    assert error.median() < 5 and error.quantile(0.9) < 15
    assert np.median([np.linalg.norm(a.place[:2] - b.place[:2]) for a, b in zip(before[::2], before[1::2], strict=True)]) > 0.09
    everything = encode_touches(scenes, len(scenes), vla.backbone, lambda done: None)
    button = ~everything.pressed.isnan()
    down = everything.pressed[button] > 0
    said = reader.pressed(everything.proprio[button], everything.place[button])
    assert 5 < down.sum() < 100 and said[down].median() > 0 and said[~down].median() < -3


def test_patches_count_rows_of_the_image_and_what_is_out_of_view_has_none() -> None:
    """The camera looks at (0.465, 0, 0.03): the middle, where four patches meet. Nearer to the camera is lower."""
    found = patches(np.array([[0.46, 0.001, 0.03], [0.9, 0.0, 0.03], [0.465, 2.0, 0.03]]))
    assert found[0] in (27, 28, 35, 36) and found[1:].tolist() == [-1, -1]
    near, far = patches(np.array([[0.55, 0.02, 0.03], [0.40, 0.02, 0.03]])) // 8
    assert near > far


def pushed(number: int, success: bool) -> LabelledEpisode:
    """A thing that moves 9 cm, or stays; the toy reader below reads its place from the latents."""
    rng = np.random.default_rng(number)
    start, moved = rng.uniform(-1, 1, 2), np.r_[[0.0] * 4, [0.6 if success else 0.0] * 6]
    latents = rng.normal(0, 0.05, (10, 64, WIDTH))
    latents[:, :, 0] = start[0] + rng.normal(0, 0.02, (10, 1))
    latents[:, :, 1] = (start[1] + moved)[:, None] + rng.normal(0, 0.02, (10, 1))
    return LabelledEpisode(f"e{number}", "push", success, latents.astype(np.float16), np.zeros((10, 6), np.float32))


class ToyReader(PlaceReader):
    """Reads the mean of the first two entries of the latents."""

    def within(self, latents: torch.Tensor, proprio: torch.Tensor, patch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return latents.mean(dim=1)[:, :2], torch.zeros(len(latents))


def test_heads_behind_a_reader_learn_stream_and_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(PlaceReader, "within", ToyReader.within)
    config = RewardTraining(labels=FrameLabels(0, 4, 2), hold=2, folds=2, repeats=1, steps=150)
    heads, _ = train_heads([pushed(k, k % 2 == 0) for k in range(24)], config, "abc", "shipped", PlaceReader(WIDTH))
    new = [pushed(100 + k, k % 2 == 0) for k in range(40)]
    (found,) = rates(score_all(heads, new, config.labels), heads.spec.thresholds)
    assert found.false_positives.mean <= 0.1 and found.recall.mean >= 0.9

    save_success_heads(tmp_path / FILE, heads)
    again, episode = load_success_heads(tmp_path / FILE, "abc"), new[0]
    wanted = probabilities(heads, episode)
    np.testing.assert_array_equal(probabilities(again, episode), wanted)
    detector = again.detector()
    for _ in range(2):  # an episode begins anew
        detector.reset("push")
        said = [detector.observe(Observation({}, episode.proprio[row], "push"), {"latents": episode.latents[row]}).progress
                for row in range(10)]  # fmt: skip
        np.testing.assert_allclose(said, wanted, atol=1e-5)


def test_a_reader_belongs_to_one_backbone_and_may_be_missing(tmp_path: Path) -> None:
    assert load_reader(tmp_path, "abc", WIDTH) is None
    shutil.copy(shipped_policy() / READER, tmp_path / READER)
    with pytest.raises(CheckpointError, match="the latents of backbone abc mean nothing to it"):
        load_reader(tmp_path, "abc", WIDTH)


def test_the_command_teaches_a_reader_and_leaves_the_backbone_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "policy"
    shutil.copytree(shipped_policy(), copy)
    before = load_vla(copy)[0].backbone.fingerprint()
    shipped = (copy / READER).read_bytes()
    assert main(["reward", "reader", "--checkpoint", str(copy), "--touches", "120", "--steps", "2"]) == 0
    assert "place_mm" in capsys.readouterr().out
    assert load_vla(copy)[0].backbone.fingerprint() == before and (copy / READER).read_bytes() != shipped
    assert load_reader(copy, before, WIDTH) is not None
    assert main(["reward", "reader", "--checkpoint", str(copy), "--touches", "10"]) == 2
    assert "touches = 10, steps = 7000: at least 100 and 2" in capsys.readouterr().err
