"""Nodes: names, wiring and parameters. Signatures are rclpy's, for what is supported."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from irevla_ros.ros.embedded import names, qos
from irevla_ros.ros.embedded.arguments import RosArguments, parse
from irevla_ros.ros.embedded.client import Client
from irevla_ros.ros.embedded.clock import Clock, ROSClock
from irevla_ros.ros.embedded.context import current
from irevla_ros.ros.embedded.endpoint import Source
from irevla_ros.ros.embedded.executor import SingleThreadedExecutor
from irevla_ros.ros.embedded.keys import Entity, Kind
from irevla_ros.ros.embedded.logging import Log, Logger, LogOutput
from irevla_ros.ros.embedded.parameter import Parameter
from irevla_ros.ros.embedded.parameter_services import ParameterServices
from irevla_ros.ros.embedded.parameter_store import Check, ParameterStore
from irevla_ros.ros.embedded.publisher import Publisher
from irevla_ros.ros.embedded.qos import QoSProfile, as_profile
from irevla_ros.ros.embedded.service import Handler, Service
from irevla_ros.ros.embedded.subscription import Subscription
from irevla_ros.ros.embedded.time import S_TO_NS
from irevla_ros.ros.embedded.time_source import TimeSource
from irevla_ros.ros.embedded.timer import Timer
from irevla_ros.ros.embedded.wire import Declaration
from irevla_ros.ros.statistics import TopicStatistics

_PUBLISHERS_AND_SUBSCRIPTIONS = (Kind.PUBLISHER, Kind.SUBSCRIPTION)


class Node:
    """A named participant of the graph. Its callbacks run while an executor spins it."""

    def __init__(
        self,
        node_name: str,
        *,
        cli_args: Sequence[str] | None = None,
        namespace: str | None = None,
        use_global_arguments: bool = True,
        enable_rosout: bool = True,
        start_parameter_services: bool = True,
        parameter_overrides: list[Parameter] | None = None,
    ) -> None:
        self._context = context = current(f"node {node_name!r}")
        context.require(f"node {node_name!r}")
        self._executor: SingleThreadedExecutor | None = None
        self._publishers: list[Publisher] = []
        self._subscriptions: list[Subscription] = []
        self._clients: list[Client] = []
        self._services: list[Service] = []
        self._timers: list[Timer] = []
        self._ready: deque[Source] = deque()  # each of them once, until the executor takes its work
        self._calls = _Calls()

        layers = [parse(cli_args)] if cli_args else []
        layers += [context.arguments] if use_global_arguments else []
        given = names.check_node_name(node_name)
        name = next((new for one in layers if (new := one.node_name(given)) != given), given)
        space = names.check_namespace(namespace)
        space = next((new for one in layers if (new := one.namespace(given, space)) != space), space)
        self._remaps = tuple(rule for one in layers for rule in one.remaps)
        self._entity = _entity(context.domain, context.session_id, context.next_id(), space, name)
        self._token: Declaration | None = context.session.liveliness().declare_token(self._entity.token())
        context.nodes.append(self)

        self._logger = Logger(self.get_fully_qualified_name()[1:].replace("/", "."), _output(layers))
        if enable_rosout and all(one.rosout for one in layers):
            self._logger._output.publish = self.create_publisher(Log, "/rosout", qos.ROSOUT).publish
        self._clock = ROSClock()
        overrides: dict[str, Any] = {}
        for one in reversed(layers):
            overrides |= one.overrides(self.get_fully_qualified_name())
        overrides |= {parameter.name: parameter.value for parameter in parameter_overrides or ()}
        self._parameters = ParameterStore(overrides)
        self._time_source = TimeSource(self, self._clock)
        if start_parameter_services:
            ParameterServices(self, self._parameters)

    @property
    def executor(self) -> SingleThreadedExecutor | None:
        """The one executor that runs the node's callbacks; setting another takes the node away from the one before."""
        return self._executor

    @executor.setter
    def executor(self, new_executor: SingleThreadedExecutor | None) -> None:
        previous = self._executor
        if new_executor is previous:
            return
        self._executor = new_executor
        if previous is not None:
            previous.remove_node(self)
        if new_executor is not None:
            new_executor.add_node(self)

    def get_name(self) -> str:
        return self._entity.node_name

    def get_namespace(self) -> str:
        return self._entity.namespace

    def get_fully_qualified_name(self) -> str:
        return names.qualify(self._entity.node_name, self._entity.namespace)

    def get_logger(self) -> Logger:
        return self._logger

    def get_clock(self) -> Clock:
        return self._clock

    def create_publisher(self, msg_type: type[Any], topic: str, qos_profile: QoSProfile | int) -> Publisher:
        publisher = Publisher(self, msg_type, self.resolve_topic_name(topic), as_profile(qos_profile))
        self._publishers.append(publisher)
        return publisher

    def create_subscription(
        self, msg_type: type[Any], topic: str, callback: Callable[[Any], object], qos_profile: QoSProfile | int
    ) -> Subscription:
        subscription = Subscription(self, msg_type, self.resolve_topic_name(topic), callback, as_profile(qos_profile))
        self._subscriptions.append(subscription)
        self._wake()
        return subscription

    def create_client(self, srv_type: type[Any], srv_name: str, *, qos_profile: QoSProfile = qos.SERVICES) -> Client:
        client = Client(self, srv_type, self.resolve_service_name(srv_name), as_profile(qos_profile))
        self._clients.append(client)
        return client

    def create_service(
        self, srv_type: type[Any], srv_name: str, callback: Handler, *, qos_profile: QoSProfile = qos.SERVICES
    ) -> Service:
        service = Service(self, srv_type, self.resolve_service_name(srv_name), callback, as_profile(qos_profile))
        self._services.append(service)
        self._wake()
        return service

    def create_timer(
        self, timer_period_sec: float, callback: Callable[[], object], *, clock: Clock | None = None
    ) -> Timer:
        period_ns = int(float(timer_period_sec) * S_TO_NS)
        timer = Timer(callback, period_ns, self._clock if clock is None else clock, self._wake)
        self._timers.append(timer)
        self._wake()
        return timer

    def destroy_publisher(self, publisher: Publisher) -> bool:
        return _destroy(self._publishers, publisher)

    def destroy_subscription(self, subscription: Subscription) -> bool:
        return _destroy(self._subscriptions, subscription)

    def destroy_client(self, client: Client) -> bool:
        return _destroy(self._clients, client)

    def destroy_service(self, service: Service) -> bool:
        return _destroy(self._services, service)

    def destroy_timer(self, timer: Timer) -> bool:
        if timer not in self._timers:
            return False
        self._timers.remove(timer)
        timer.cancel()
        return True

    def destroy_node(self) -> None:
        """Vanish from the graph with everything that the node made. Calling it again does nothing."""
        self.executor = None
        while self._timers:
            self.destroy_timer(self._timers[0])
        self._logger._output.publish = None
        groups: tuple[list[Any], ...] = (self._subscriptions, self._services, self._clients, self._publishers)
        for group in groups:
            while group:
                _destroy(group, group[0])
        if self._token is not None:
            self._token.undeclare()
            self._token = None
            self._context.nodes.remove(self)

    def declare_parameter(
        self, name: str, value: Any = None, descriptor: Any = None, ignore_override: bool = False
    ) -> Parameter:
        """Raises the exceptions of ``ParameterStore.declare``."""
        return self._parameters.declare(name, value, descriptor, ignore_override)

    def has_parameter(self, name: str) -> bool:
        return name in self._parameters

    def get_parameter(self, name: str) -> Parameter:
        return self._parameters.get(name)

    def describe_parameter(self, name: str) -> Any:
        return self._parameters.describe(name)

    def set_parameters(self, parameter_list: list[Parameter]) -> list[Any]:
        """One SetParametersResult each, in order. Raises ParameterNotDeclaredException."""
        return [self._parameters.set_atomically([parameter]) for parameter in parameter_list]

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> Any:
        return self._parameters.set_atomically(parameter_list)

    def add_on_set_parameters_callback(self, callback: Check) -> None:
        """``callback`` sees the parameters before they are set and returns a SetParametersResult; the newest is first."""
        self._parameters.add_check(callback)

    def resolve_topic_name(self, topic: str) -> str:
        return names.resolve(topic, self.get_name(), self.get_namespace(), self._remaps)

    def resolve_service_name(self, service: str) -> str:
        return names.resolve(service, self.get_name(), self.get_namespace(), self._remaps, is_service=True)

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        return [(one.node_name, one.namespace) for one in self._context.graph.entities(Kind.NODE)]

    def get_topic_names_and_types(self) -> list[tuple[str, list[str]]]:
        return self._context.graph.names_and_types(_PUBLISHERS_AND_SUBSCRIPTIONS)

    def get_service_names_and_types(self) -> list[tuple[str, list[str]]]:
        return self._context.graph.names_and_types((Kind.SERVICE,))

    def count_publishers(self, topic_name: str) -> int:
        return self._context.graph.count(Kind.PUBLISHER, self._expand(topic_name))

    def count_subscribers(self, topic_name: str) -> int:
        return self._context.graph.count(Kind.SUBSCRIPTION, self._expand(topic_name))

    def io_statistics(self) -> list[TopicStatistics]:
        """What passed through this node's publishers and subscriptions so far."""
        return [one.statistics() for one in self._publishers] + [one.statistics() for one in self._subscriptions]

    def _expand(self, name: str) -> str:
        return names.expand(name, self.get_name(), self.get_namespace())

    def _call_soon(self, function: Callable[[], object]) -> None:
        """Have the executor's thread call ``function``; from any thread."""
        self._calls.waiting.append(function)
        self._has_work(self._calls)

    def _has_work(self, source: Source) -> None:
        self._ready.append(source)
        self._wake()

    def _take_ready(self) -> list[Source]:
        """What has work for the executor now, the timers that are due first."""
        ready: list[Source] = [timer for timer in self._timers if timer.ready()]
        for _ in range(len(self._ready)):
            ready.append(self._ready.popleft())
        return ready

    def _wake(self) -> None:
        executor = self._executor
        if executor is not None:
            executor.wake()


class _Calls:
    """Functions that other threads want called."""

    def __init__(self) -> None:
        self.waiting: deque[Callable[[], object]] = deque()

    def take(self) -> Callable[[], object] | None:
        return self.waiting.popleft() if self.waiting else None


def _entity(domain: int, session: str, number: int, namespace: str, name: str) -> Entity:
    return Entity(Kind.NODE, domain, session, number, number, namespace, name)


def _output(layers: Sequence[RosArguments]) -> LogOutput:
    levels: dict[str, int] = {}
    for one in reversed(layers):
        levels |= one.log_levels
    return LogOutput(levels, console=all(one.console for one in layers))


def _destroy(group: list[Any], one: Any) -> bool:
    if one not in group:
        return False
    group.remove(one)
    one.destroy()
    return True
