"""What every learner shares: a gradient step that refuses to diverge, schedules, and state as flat tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from irevla_ros.core.errors import CheckpointError, IrevlaError


class DivergedError(IrevlaError):
    """A loss or a gradient is no longer finite; the weights are those of before the step."""


def descend(max_grad_norm: float, **terms: tuple[Optimizer, Tensor]) -> dict[str, float]:
    """One clipped gradient step for each (optimizer, loss); returns the gradient norms before clipping, by name.

    Nothing is changed unless every loss and every gradient is finite: otherwise ``DivergedError`` names the culprit.
    """
    for name, (_, loss) in terms.items():
        _require_finite(f"{name} loss", float(loss.detach()))
    for optimizer, _ in terms.values():
        optimizer.zero_grad()
    for _, loss in terms.values():
        loss.backward()  # type: ignore[no-untyped-call]
    norms = {}
    for name, (optimizer, _) in terms.items():
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norms[name] = float(nn.utils.clip_grad_norm_(parameters, max_grad_norm))
        _require_finite(f"{name} gradient norm", norms[name])
    for optimizer, _ in terms.values():
        optimizer.step()
    return norms


def _require_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise DivergedError(f"{name} is {value}", "losses and gradients are finite",
                            "lower the learning rate or look for NaN in the data")  # fmt: skip


def scale_learning_rates(optimizer: Optimizer, factor: float) -> None:
    """Set each group's rate to ``factor`` times its ``base_lr``, which the group must carry."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["base_lr"]


def minibatches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Index tensors that cover 0 .. count-1 once, in fresh random order, in nearly equal parts of at most ``size``."""
    parts = -(-count // size)
    yield from torch.tensor_split(torch.randperm(count, generator=generator), parts)


class Means:
    """Averages of what was logged, by name."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, **values: float) -> None:
        for name, value in values.items():
            self._values.setdefault(name, []).append(value)

    def count(self, name: str) -> int:
        return len(self._values.get(name, ()))

    def means(self) -> dict[str, float]:
        return {name: sum(values) / len(values) for name, values in self._values.items()}


class Resumable:
    """State as one flat ``{name: tensor}``, fit for safetensors: modules, optimisers, counters, the generator.

    A subclass lists its parts in ``_modules``, ``_optimizers`` and ``_counters`` (names of int attributes).
    """

    _modules: Mapping[str, nn.Module]
    _optimizers: Mapping[str, Optimizer]
    _counters: tuple[str, ...]
    generator: torch.Generator | None = None

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of everything that changes in training."""
        state = {f"counter.{name}": torch.tensor(getattr(self, name)) for name in self._counters}
        if self.generator is not None:
            state["generator"] = self.generator.get_state()
        for name, module in self._modules.items():
            state.update({f"{name}.{key}": tensor.detach().clone() for key, tensor in module.state_dict().items()})
        for name, optimizer in self._optimizers.items():
            for index, slots in optimizer.state_dict()["state"].items():
                state.update({f"{name}.{index}.{slot}": tensor.clone() for slot, tensor in slots.items()})
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue exactly where ``state_dict`` was taken. Raises ``CheckpointError`` when parts are missing."""
        try:
            for name in self._counters:
                setattr(self, name, int(state[f"counter.{name}"]))
            if self.generator is not None:
                self.generator.set_state(state["generator"])
            for name, module in self._modules.items():
                module.load_state_dict(_under(name, state))
        except (KeyError, RuntimeError) as error:
            problem = " ".join(str(error).split())
            raise CheckpointError(f"learner state ({problem})", "it holds every part of this learner",
                                  "resume with the configuration that wrote it") from error  # fmt: skip
        for name, optimizer in self._optimizers.items():
            slots: dict[int, dict[str, Tensor]] = {}
            for key, tensor in _under(name, state).items():
                index, slot = key.split(".")
                slots.setdefault(int(index), {})[slot] = tensor
            optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def _under(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key[len(prefix) :]: tensor for key, tensor in state.items() if key.startswith(prefix)}
