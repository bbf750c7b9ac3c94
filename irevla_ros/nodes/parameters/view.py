"""What the view node is set to."""

from __future__ import annotations

from dataclasses import dataclass

from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes.parameters.reading import Reader, check_arms, check_cameras


@dataclass(frozen=True)
class ViewConfig:
    """run: folder of the run, whose earlier episodes the curve begins with, "" for none; run_id: names it. port: of the page, 0
    for any that is free; host: its address, which others than this machine's users reach only when it is not a loopback one.
    arms: namespaces; cameras: of each arm; compressed: listen to the compressed topics."""

    run: str = ""
    run_id: str = ""
    port: int = 8765
    host: str = "127.0.0.1"
    arms: tuple[str, ...] = ("",)
    cameras: tuple[str, ...] = ("front",)
    compressed: bool = False

    def __post_init__(self) -> None:
        check_arms(self.arms)
        check_cameras(self.cameras)
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port = {self.port}", "a port is 0 to 65535", "give 0 for any that is free")


def settings(read: Reader) -> ViewConfig:
    return read(ViewConfig)
