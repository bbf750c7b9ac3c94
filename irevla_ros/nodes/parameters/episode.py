"""What the episode node is set to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from irevla_ros.core.durations import period_ns
from irevla_ros.core.episode_machine import EpisodeConfig
from irevla_ros.nodes.orders import OrdersConfig, OwnOrders
from irevla_ros.nodes.parameters.reading import Reader


@dataclass(frozen=True)
class EpisodeNodeConfig:
    """run: absolute path of the run's folder, which remembers the numbers of episodes; run_id: names the run in them."""

    run: str = ""
    run_id: str = ""
    lock_step: bool = False
    rate_hz: float = 10.0

    def __post_init__(self) -> None:
        period_ns(self.rate_hz)


class EpisodeSettings(NamedTuple):
    """The node, what it starts by itself, and its machine."""

    node: EpisodeNodeConfig
    orders: OrdersConfig
    own: OwnOrders
    machine: EpisodeConfig


def settings(read: Reader) -> EpisodeSettings:
    node, orders, machine = read(EpisodeNodeConfig), read(OrdersConfig), read(EpisodeConfig)
    own = OwnOrders(orders, period_ns(node.rate_hz), node.lock_step)
    return EpisodeSettings(node, orders, own, machine)
