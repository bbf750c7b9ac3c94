"""This host's link to other hosts, in a process of its own: ``python -m irevla_ros.ros.gateway``.

Needed only where it should not live in one of the nodes. Settings: IREVLA_CONNECT, IREVLA_LISTEN, IREVLA_TLS_*.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from irevla_ros.core.errors import IrevlaError
from irevla_ros.ros.embedded.gateway import Gateway
from irevla_ros.ros.embedded.network import from_environment
from irevla_ros.ros.errors import MiddlewareError


def main() -> int:
    """Route until SIGINT or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        network = from_environment(os.environ)
        if not network.two_hosts:
            remedy = "set IREVLA_LISTEN here, IREVLA_CONNECT on the other host"
            raise MiddlewareError("gateway", "there is no other host to route to", remedy)
    except IrevlaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    gateway = Gateway(network, lambda text: print(f"warning: {text}", file=sys.stderr, flush=True))
    gateway.start()
    stop.wait()
    gateway.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
