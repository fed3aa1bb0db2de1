"""Pins: /diagnostics that does not say whether the arm is armed and why it is not, or calls an idle arbiter stale."""

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from inril_common.qos import EVENT, SENSOR
from inril_msgs.msg import PolicyAction
from inril_msgs.srv import Arm


def test_armed_state_and_faults_are_in_diagnostics_and_a_deaf_tick_is_a_fault(bench):
    diagnostics = bench.hear(DiagnosticArray, "/diagnostics", EVENT)
    bench.start("inril_control.arbiter_node", real_time_factor=0.0)

    def line(name: str) -> DiagnosticStatus:
        wanted = f"arbiter_node: {name}"
        return next((s for d in reversed(diagnostics) for s in d.status if s.name == wanted), DiagnosticStatus())

    bench.until(lambda: line("control").message == "not armed", "the state of control")
    assert line("control").level == line("observation").level == DiagnosticStatus.OK
    assert line("observation").message == "idle", "no episode runs"
    arm = Arm.Request(arm=True, operator_name="test")
    assert bench.ask(Arm, "/arbiter/arm", arm).success
    bench.until(lambda: line("control").message.startswith("armed, "), "the armed state")

    publisher = bench.node.create_publisher(PolicyAction, "/policy_action", SENSOR)
    bench.until(lambda: line("control").level == DiagnosticStatus.ERROR, "the fault")
    assert "incompatible_qos" in line("control").message and "BEST_EFFORT" in line("control").message
    refused = bench.ask(Arm, "/arbiter/arm", arm)
    assert not refused.success and "publish with reliability RELIABLE" in refused.message
    bench.node.destroy_publisher(publisher)
    bench.until(lambda: bench.ask(Arm, "/arbiter/arm", arm).success, "arming once it has gone")
