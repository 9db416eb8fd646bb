"""Testing workflows without a service: in memory, on a clock that the test moves, with stubs for nodes.

    from executor.testing import Bench, crash_matrix

    bench = Bench(Path("orders.yaml").read_text(), stubs={"crm.lookup": {"name": "Ada"}})
    run = bench.deliver("shop", "order.paid", {"id": 7})
    assert run.status == "completed"
    assert run.outputs["summary"] == …

    crash_matrix(text, ("shop", "order.paid", {"id": 7}), stubs=…)     # kills and resumes it at every commit

The very driver, plan and fold of the engine run here; only the log, the work list and the clock are stand-ins. Nothing
sleeps: when nothing is due, the clock goes to where something is.
"""

from executor.testing.bench import Bench, RunResult
from executor.testing.matrix import CrashReport, crash_matrix
from executor.testing.stubs import Call, Stub

__all__ = ["Bench", "Call", "CrashReport", "RunResult", "Stub", "crash_matrix"]
