"""The six services by which ``ros2 param`` reads and sets a node's parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from irevla_ros.ros.embedded import qos
from irevla_ros.ros.embedded.exceptions import ParameterNotDeclaredException, ParameterUninitializedException
from irevla_ros.ros.embedded.parameter import Parameter, SetParametersResult
from irevla_ros.ros.embedded.parameter_store import ParameterStore
from irevla_ros.ros.embedded.types.message import service_class

if TYPE_CHECKING:
    from irevla_ros.ros.embedded.node import Node

_SEPARATOR = "."


class ParameterServices:
    """``~/describe_parameters``, ``~/get_parameters`` and so on, for one node."""

    def __init__(self, node: Node, store: ParameterStore) -> None:
        self._store = store
        services: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
            "describe_parameters": ("DescribeParameters", self._describe),
            "get_parameters": ("GetParameters", self._get),
            "get_parameter_types": ("GetParameterTypes", self._get_types),
            "list_parameters": ("ListParameters", self._list),
            "set_parameters": ("SetParameters", self._set),
            "set_parameters_atomically": ("SetParametersAtomically", self._set_atomically),
        }
        for name, (service, callback) in services.items():
            cls = service_class(f"rcl_interfaces/srv/{service}")
            node.create_service(cls, f"~/{name}", callback, qos_profile=qos.PARAMETERS)

    # As in rclpy an unknown name among those that are asked for makes the whole answer empty.
    def _describe(self, request: Any, response: Any) -> Any:
        if all(name in self._store for name in request.names):
            response.descriptors = [self._store.describe(name) for name in request.names]
        return response

    def _get(self, request: Any, response: Any) -> Any:
        with contextlib.suppress(ParameterNotDeclaredException, ParameterUninitializedException):
            response.values = [self._store.get(name).get_parameter_value() for name in request.names]
        return response

    def _get_types(self, request: Any, response: Any) -> Any:
        if all(name in self._store for name in request.names):
            response.types = [int(self._store.describe(name).type) for name in request.names]
        return response

    def _list(self, request: Any, response: Any) -> Any:
        for name in self._store.names():
            if any(_within(name, prefix, int(request.depth)) for prefix in request.prefixes or [""]):
                response.result.names.append(name)
                prefix = name.rpartition(_SEPARATOR)[0]
                if prefix and prefix not in response.result.prefixes:
                    response.result.prefixes.append(prefix)
        return response

    def _set(self, request: Any, response: Any) -> Any:
        response.results = [self._try([parameter]) for parameter in request.parameters]
        return response

    def _set_atomically(self, request: Any, response: Any) -> Any:
        response.result = self._try(request.parameters)
        return response

    def _try(self, messages: list[Any]) -> Any:
        try:
            return self._store.set_atomically([Parameter.from_parameter_msg(one) for one in messages])
        except (ParameterNotDeclaredException, ValueError) as error:
            return SetParametersResult(successful=False, reason=str(error))


def _within(name: str, prefix: str, depth: int) -> bool:
    """Whether ``name`` lies below ``prefix``, at most ``depth`` dots deep (0: however deep)."""
    if prefix and name != prefix and not name.startswith(prefix + _SEPARATOR):
        return False
    rest = name[len(prefix) :].lstrip(_SEPARATOR)
    return depth == 0 or rest.count(_SEPARATOR) < depth
