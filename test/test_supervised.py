"""Behaviour cloning: loss, schedule, freezing, augmentation, mixing, and one module that data parallelism can wrap."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.jobs.training import join_group
from irevla_ros.jobs.workers import WorkerContext
from irevla_ros.learn.augment import Augmentation
from irevla_ros.learn.mixture import MixtureSampler
from irevla_ros.learn.optim import DivergedError
from irevla_ros.learn.supervised import BCConfig, BCLoss, BehaviourCloning, LatentBCLoss, augmented
from irevla_ros.policy.head import HeadConfig
from irevla_ros.policy.vla import VLA, build_vla
from learn_toys import PixelBackbone

Batch = tuple[Tensor, ...]
ALONE = WorkerContext(rank=0, size=1)


def make_vla(seed: int = 0) -> VLA:
    torch.manual_seed(seed)
    return build_vla(PixelBackbone(), head=HeadConfig(seeds=2, attention_heads=2, hidden=32))


def batches(vla: VLA, size: int = 32, seed: int = 0) -> Iterator[Batch]:
    """Brightness of the left half is the first action, the instruction decides the sign of the second."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        images = torch.randint(0, 256, (size, 1, 8, 8, 3), generator=generator, dtype=torch.uint8)
        level = torch.rand(size, 1, 1, 1, generator=generator)
        images[:, :, :, :4] = (255 * level[..., None]).to(torch.uint8)
        words = [("up", "down")[int(bit)] for bit in torch.randint(0, 2, (size,), generator=generator)]
        actions = torch.zeros(size, 1, 5)
        actions[:, 0, 0] = 2 * level[:, 0, 0, 0] - 1
        actions[:, 0, 1] = torch.tensor([1.0 if word == "up" else -1.0 for word in words])
        yield images, vla.backbone.tokenize(words), torch.zeros(size, 6), actions


def test_loss_is_the_mean_square_over_batch_chunk_and_action() -> None:
    vla = make_vla()
    with torch.no_grad():
        vla.head.out.weight.zero_()
        vla.head.out.bias.copy_(torch.tensor([0.5, 0.0, 0.0, 0.0, 0.0]))
    images, tokens, proprio, _ = next(batches(vla, 4))
    assert BCLoss(vla)(images, tokens, proprio, torch.zeros(4, 1, 5)).item() == pytest.approx(0.25 / 5)


def test_cloning_learns_what_is_seen_and_what_is_said() -> None:
    vla = make_vla()
    cloning = BehaviourCloning(BCLoss(vla), BCConfig(steps=150, warmup_steps=10, head_lr=3e-3, backbone_lr=3e-3))
    held_out = list(islice(batches(vla, seed=9), 4))
    before = cloning.validate(held_out)
    metrics = cloning.update(batches(vla), 150)
    assert before == pytest.approx((1 / 3 + 1) / 5, rel=0.1)
    assert cloning.validate(held_out) < 0.05 * before
    assert metrics["lr_factor"] < 1e-3


def test_schedule_warms_up_and_falls_as_a_cosine() -> None:
    config = BCConfig(steps=110, warmup_steps=10)
    assert [config.factor(step) for step in (0, 4, 9, 10, 60, 110)] == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.5, 0.0])


def test_parameter_groups_carry_their_own_rates() -> None:
    cloning = BehaviourCloning(BCLoss(make_vla()), BCConfig(steps=10, warmup_steps=0, head_lr=0.5, backbone_lr=0.25))
    cloning.update(batches(make_vla()), 1)
    assert [group["lr"] for group in cloning.optimizer.param_groups] == [0.5, 0.25]


def test_frozen_backbone_stays_and_equals_training_on_stored_latents() -> None:
    vla, twin = make_vla(), make_vla()
    before = {name: tensor.clone() for name, tensor in vla.backbone.state_dict().items()}
    config = BCConfig(steps=5, warmup_steps=0)
    BehaviourCloning(BCLoss(vla, train_backbone=False), config).update(batches(vla), 5)
    assert all(torch.equal(before[name], tensor) for name, tensor in vla.backbone.state_dict().items())

    def stored() -> Iterator[Batch]:
        for images, tokens, proprio, actions in batches(twin):
            yield twin.latents(images, tokens).detach(), proprio, actions

    BehaviourCloning(LatentBCLoss(twin.head), config).update(stored(), 5)
    for name, tensor in vla.head.state_dict().items():
        torch.testing.assert_close(twin.head.state_dict()[name], tensor)
    assert not torch.equal(make_vla().head.out.weight, vla.head.out.weight)


def test_loss_module_works_under_distributed_data_parallel(tmp_path: Path) -> None:
    join_group(ALONE, str(tmp_path / "meeting"))
    try:
        losses = []
        for wrap in (False, True):
            loss = BCLoss(make_vla())
            wrapped: nn.Module | None = DistributedDataParallel(loss) if wrap else None
            losses.append(BehaviourCloning(loss, BCConfig(steps=4), wrapped).update(batches(loss.vla), 4)["loss"])
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    finally:
        torch.distributed.destroy_process_group()


def test_resuming_continues_bit_for_bit() -> None:
    config = BCConfig(steps=20, warmup_steps=3)
    straight, resumed = (BehaviourCloning(BCLoss(make_vla(seed)), config) for seed in (0, 1))
    straight.update(batches(make_vla()), 5)
    resumed.load_state_dict(straight.state_dict())
    first, second = (learner.update(batches(make_vla(), seed=3), 4) for learner in (straight, resumed))
    assert first == second


def test_bad_batches_are_named() -> None:
    vla = make_vla()
    cloning = BehaviourCloning(BCLoss(vla), BCConfig(steps=10))
    with pytest.raises(DataError, match="2 batches: 3 are needed; give an endless iterator"):
        cloning.update(islice(batches(vla), 2), 3)
    images, tokens, proprio, actions = next(batches(vla))
    weight = vla.head.out.weight.clone()
    with pytest.raises(DivergedError, match="supervised loss is nan"):
        cloning.update(iter([(images, tokens, proprio, actions * float("nan"))]), 1)
    assert torch.equal(weight, vla.head.out.weight)
    with pytest.raises(DataError, match="no validation batch"):
        cloning.validate([])
    with pytest.raises(ConfigError, match="head_lr = 0: it is positive"):
        BCConfig(steps=1, head_lr=0)


# ---- augmentation


def test_shift_moves_all_cameras_alike_and_repeats_the_edge() -> None:
    ramp = torch.arange(8, dtype=torch.uint8) * 10
    images = (ramp[:, None] + ramp[None, :])[None, None, :, :, None].expand(64, 2, 8, 8, 3).contiguous()
    moved = Augmentation(shift=2, brightness=0, contrast=0, saturation=0)(images, torch.Generator().manual_seed(0))
    assert torch.equal(moved[:, 0], moved[:, 1])
    seen = set()
    for sample in moved[:, 0, :, :, 0].tolist():
        matches = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)
                   if all(sample[y][x] == 10 * (min(max(y + dy, 0), 7) + min(max(x + dx, 0), 7))
                          for y in range(8) for x in range(8))]  # fmt: skip
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) > 15


def test_light_never_changes_a_hue() -> None:
    colours = torch.tensor([[230, 40, 40], [250, 140, 10], [240, 230, 20], [30, 200, 60], [20, 60, 220]])
    images = colours.to(torch.uint8)[None, None, :, None, :].expand(100, 1, 5, 4, 3).contiguous()
    augmentation = Augmentation(shift=0, brightness=0.4, contrast=0.4, saturation=0.4)
    changed = augmentation(images, torch.Generator().manual_seed(0))
    for number, colour in enumerate(colours.tolist()):
        hue = colorsys.rgb_to_hsv(*colour)[0]
        found = [colorsys.rgb_to_hsv(*pixel)[0] for pixel in changed[:, 0, number, 0].tolist()]
        assert max(abs(other - hue) for other in found) < 0.02  # rounding to bytes; neighbouring names differ by .08
    assert changed.float().amax(dim=-1).std(dim=0).min() > 10  # and the light does change
    assert changed.dtype == torch.uint8


def test_augmentation_is_repeatable_and_can_be_nothing() -> None:
    images = torch.randint(0, 256, (5, 1, 8, 8, 3), dtype=torch.uint8)
    nothing = Augmentation(0, 0.0, 0.0, 0.0)
    assert torch.equal(nothing(images, torch.Generator()), images)
    some = Augmentation()
    first, second = (some(images, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, images)
    other = torch.zeros(5)
    [(changed, kept)] = list(augmented(iter([(images, other)]), some, torch.Generator().manual_seed(1)))
    assert torch.equal(changed, first)
    assert kept is other
    with pytest.raises(ConfigError, match="shift = -1"):
        Augmentation(shift=-1)


# ---- mixing


def test_mixture_follows_the_weights_and_is_uniform_over_tasks() -> None:
    expert = ["push"] * 90 + ["press"] * 10
    rl = ["pick"] * 5
    sampler = MixtureSampler([expert, rl], [3.0, 1.0], 4000, torch.Generator().manual_seed(0))
    pairs = next(iter(sampler)).tolist()
    tasks = Counter((expert, rl)[source][sample] for source, sample in pairs)
    assert tasks["pick"] / 4000 == pytest.approx(0.25, abs=0.03)
    assert tasks["push"] / 4000 == pytest.approx(0.375, abs=0.03)
    assert tasks["press"] / 4000 == pytest.approx(0.375, abs=0.03)
    assert {sample for source, sample in pairs if source == 0} == set(range(100))


def test_mixture_is_repeatable_and_skips_sources_without_weight() -> None:
    first, second = (next(iter(MixtureSampler([["a"], []], [1, 0], 16, torch.Generator().manual_seed(2))))
                     for _ in range(2))  # fmt: skip
    assert torch.equal(first, second)
    assert first.unique().tolist() == [0]


def test_mixture_errors() -> None:
    with pytest.raises(DataError, match=r"source 1 with weight 0.5 is empty: .*; collect data for it or give it"):
        MixtureSampler([["a"], []], [0.5, 0.5], 4, torch.Generator())
    with pytest.raises(ConfigError, match=r"weights \(1,\) for 2 sources"):
        MixtureSampler([["a"], ["b"]], [1], 4, torch.Generator())


