"""Two hosts on one machine: network namespaces with a link between them, and certificates made as docs/middleware.md says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "middleware.md"
LINK = "veth0"


class NotHere(Exception):
    """This machine cannot do it; says why."""


def certificates(folder: Path, hosts: Sequence[str], also: str = "") -> None:
    """Run the documented commands in ``folder`` for ``hosts``; ``also``: further names of each, such as ``,IP:127.0.0.1``."""
    if shutil.which("openssl") is None:
        raise NotHere("no openssl to make certificates with")
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (commands,) = [block for block in blocks if "openssl" in block]
    commands = commands.replace("gpu-box robot-pc", " ".join(hosts)).replace("DNS:$host", f"DNS:$host{also}")
    subprocess.run(["bash", "-ec", commands], cwd=folder, check=True, capture_output=True)


@contextmanager
def namespaces(addresses: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """host -> its network namespace, for two hosts with these addresses, who know each other by name."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise NotHere("network namespaces need root and iproute2")
    names = {host: f"irevla-{os.getpid()}-{host}" for host in addresses}
    known = "127.0.0.1 localhost\n" + "".join(f"{address} {host}\n" for host, address in addresses.items())
    made: list[str] = []
    try:
        for name in names.values():
            try:
                _ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                raise NotHere(f"no network namespaces here: {error.stderr.strip()}") from None
            made.append(name)
            etc = Path("/etc/netns") / name
            etc.mkdir(parents=True)
            (etc / "hosts").write_text(known)
        first, second = names.values()
        _ip("link", "add", LINK, "netns", first, "type", "veth", "peer", "name", LINK, "netns", second)
        for host, name in names.items():
            _ip("-n", name, "addr", "add", f"{addresses[host]}/24", "dev", LINK)
            for device in (LINK, "lo"):
                _ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)


def inside(namespace: str) -> tuple[str, ...]:
    """What stands before a command that is to run in ``namespace``."""
    return "ip", "netns", "exec", namespace


def link(namespace: str, state: str) -> None:
    """Cut (``down``) or restore (``up``) the link."""
    _ip("-n", namespace, "link", "set", LINK, state)


def packets(namespace: str, address: str, state: str) -> None:
    """Lose (``lost``) what is sent to ``address``, of which nobody is told, or let it arrive again (``through``)."""
    nobody = ("lladdr", "02:00:00:00:00:99", "nud", "permanent")
    words = ("replace", address, *nobody) if state == "lost" else ("del", address)
    _ip("-n", namespace, "neigh", *words, "dev", LINK)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
