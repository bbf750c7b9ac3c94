"""The one process of a host that routes between it and other hosts.

Every process that is told of another host (``IREVLA_CONNECT``, ``IREVLA_LISTEN``) stands for election: whoever can listen
on the router's port is the gateway, and another takes over when it dies. To have it in a process of its own, start that
first: ``python -m irevla_ros.ros.gateway``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import zenoh

from irevla_ros.ros.embedded.network import Network
from irevla_ros.ros.embedded.session import ROUTER, gateway_config
from irevla_ros.ros.embedded.wire import close_session

_RETRY_S = 1.0
_TAKEN = "Address already in use"


class Gateway:
    """Stands for election from ``start`` to ``close``, in a thread of its own.

    ``report`` is told, once each, of what else than another gateway keeps it from routing, such as a wrong certificate.
    """

    def __init__(self, network: Network, report: Callable[[str], None]) -> None:
        self._network = network
        self._report = report
        self._reported = ""
        self._stop = threading.Event()
        self._elected = threading.Event()
        self._thread = threading.Thread(target=self._run, name="irevla-gateway", daemon=True)

    @property
    def elected(self) -> bool:
        return self._elected.is_set()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop routing; the next process of this host takes over."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                session = zenoh.open(gateway_config(self._network))
            except zenoh.ZError as error:
                self._complain(" ".join(str(error).split()))
                self._stop.wait(_RETRY_S)
                continue
            self._elected.set()
            self._stop.wait()
            close_session(session)
            self._elected.clear()

    def _complain(self, text: str) -> None:
        # Zenoh appends where in its source it happened.
        text = text.split(" at /")[0]
        if not (_TAKEN in text and ROUTER in text) and text != self._reported:
            self._reported = text
            self._report(f"no link to other hosts: {text}")
