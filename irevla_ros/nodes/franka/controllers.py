"""The robot's controller_manager: which controllers run, and switching them. Every call has a deadline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from irevla_ros.core.durations import SECOND
from irevla_ros.nodes.franka.procedure import Procedure, RobotError, Steps, ask
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.franka import FrankaConfig

try:
    from controller_manager_msgs.srv import (
        ListControllers,
        ListHardwareComponents,
        SetHardwareComponentState,
        SwitchController,
    )
except ImportError as _error:
    raise RobotError("controller_manager_msgs", f"does not import ({_error})",
                     "install ros-$ROS_DISTRO-controller-manager-msgs") from None  # fmt: skip

ACTIVE = 3  # lifecycle_msgs/State.PRIMARY_STATE_ACTIVE
STRICT = 2
POLL_S = 0.5
MISSING = "missing"


class Controllers:
    """``states``: of the controllers, by name; ``broadcasters``: those that were ever seen active; ``hardware``: state of the
    robot's hardware component, MISSING where there are only others; None while the controller_manager does not answer. Polled
    twice a second."""

    def __init__(self, node: GraphNode, config: FrankaConfig) -> None:
        self._node, self._config = node, config
        self._timeout_s = config.recovery.step_ns / SECOND
        name = config.of_driver("controller_manager")
        self._list = node.create_client(ListControllers, f"{name}/list_controllers")
        self._components = node.create_client(ListHardwareComponents, f"{name}/list_hardware_components")
        self._switch = node.create_client(SwitchController, f"{name}/switch_controller")
        self._set_component = node.create_client(SetHardwareComponentState, f"{name}/set_hardware_component_state")
        self.states: Mapping[str, str] = {}
        self.broadcasters: set[str] = set()
        self.hardware: str | None = None
        self._poll: Procedure | None = None
        node.every(POLL_S, self._look)

    def _look(self) -> None:
        if self._poll is None or not self._poll.running:
            self._poll = Procedure(self.look(), self._looked)

    def _looked(self, failure: str) -> None:
        if failure:
            self.states, self.hardware = {}, None

    def look(self) -> Steps:
        """Ask for the state of everything."""
        components = yield from ask(self._node, self._components, ListHardwareComponents.Request(), self._timeout_s)
        listed = yield from ask(self._node, self._list, ListControllers.Request(), self._timeout_s)
        self.states = {one.name: one.state for one in listed.controller}
        found = {one.name: one.state.label for one in components.component}
        self.hardware = found.get(self._config.hardware, MISSING if found else None)
        kinds = {one.name: one.type for one in listed.controller if one.state == "active"}
        self.broadcasters |= {name for name, kind in kinds.items() if kind.endswith("Broadcaster")}

    def switch(self, activate: Sequence[str] = (), deactivate: Sequence[str] = ()) -> Steps:
        """Only what is not as wanted yet. RobotError when the manager refuses."""
        yield from self.look()
        on = [name for name in activate if self.states.get(name) != "active"]
        off = [name for name in deactivate if self.states.get(name) == "active"]
        if not on and not off:
            return
        for name in on:
            if name not in self.states:
                raise RobotError(f"controller {name!r}", f"there are {', '.join(sorted(self.states)) or 'none'}",
                                 "load and configure it, or set `controller`")  # fmt: skip
        request = SwitchController.Request(activate_controllers=on, deactivate_controllers=off, strictness=STRICT)
        answer = yield from ask(self._node, self._switch, request, self._timeout_s)
        yield from self.look()
        if not answer.ok:
            raise RobotError(f"switch_controller +{on} -{off}", "the controller_manager refused", "see its log")

    def activate_hardware(self) -> Steps:
        """Set the robot's hardware component active."""
        request = SetHardwareComponentState.Request(name=self._config.hardware)
        request.target_state.id, request.target_state.label = ACTIVE, "active"
        answer = yield from ask(self._node, self._set_component, request, self._timeout_s)
        yield from self.look()
        if not answer.ok:
            raise RobotError(f"hardware component {self._config.hardware}",
                             f"it is {answer.state.label or self.hardware}, not active",
                             "is the robot unlocked, with FCI on? see ros2 control list_hardware_components")  # fmt: skip
