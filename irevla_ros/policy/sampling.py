"""Drawing actions around the policy's mean: the same numbers for the same episode, wherever it is run."""

from __future__ import annotations

import numpy as np

from irevla_ros.core.types import FloatArray


class ActionSampler:
    """The exploration of one episode. ``draw`` is called once for each observation acted on, in their order."""

    def __init__(self, seed: int) -> None:
        self._noise = np.random.default_rng([seed, 1])

    def draw(self, mean: FloatArray, std: FloatArray | None, deterministic: bool) -> tuple[FloatArray, float | None]:
        """A raw chunk float32 [H, A] around ``mean`` [H, A], and its log-density under the Gaussian of ``std`` [A].

        deterministic: the mean itself, and no noise is used up; so too without ``std``, where there is no density.
        """
        if std is None:
            return mean.astype(np.float32), None
        if deterministic:
            return mean.astype(np.float32), log_density(np.zeros_like(mean), std)
        noise = self._noise.standard_normal(mean.shape).astype(np.float32)
        return (mean + std * noise).astype(np.float32), log_density(noise, std)


def log_density(noise: FloatArray, std: FloatArray) -> float:
    """Log-density of a diagonal Gaussian of ``std`` [A] at ``noise`` [H, A] standard deviations from its mean."""
    return float(-0.5 * (noise**2).sum() - len(noise) * np.log(std).sum() - 0.5 * noise.size * np.log(2 * np.pi))
