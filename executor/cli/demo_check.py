"""What the demo is judged by: the facts in the log and what the receiver got, against what the senders were
told.

Lost is: an acknowledged webhook that is not in the log, exactly once and byte for byte; a run that should be
there and did not complete; a webhook of a completed run that the receiver does not have. Duplicated is: a
receipt too many, a run too many, a run that ended twice, a node that completed twice. A call that the
receiver saw twice under one id is neither: that is at least once, and the id is how it tells.
"""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import msgspec

from events import audit
from events.audit import StartedRun
from events.settings import Settings
from executor.cli.common import operator, table
from executor.cli.demo_story import Demo
from executor.cli.sink import Sink

DELIVERING = ("order-paid", "repository-activity", "payment")
"""The workflows that end in a webhook to the receiver."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers."""

    sent: int
    acknowledged: int
    sent_again: int
    in_log: int
    extra_receipts: int
    expected_runs: int
    finished_runs: int
    failed_runs: int
    missing_runs: int
    extra_runs: int
    ended_twice: int
    completed_twice: int
    work_left: int
    delivered: int
    undelivered: int
    calls: int
    refused_once: int
    replayed: bool

    @property
    def lost(self) -> int:
        return self.acknowledged - self.in_log + self.missing_runs + self.undelivered + self.work_left

    @property
    def duplicated(self) -> int:
        return self.extra_receipts + self.extra_runs + self.ended_twice + self.completed_twice

    @property
    def good(self) -> bool:
        whole = self.sent == self.acknowledged and self.finished_runs == self.expected_runs and not self.failed_runs
        return whole and self.lost == 0 and self.duplicated == 0 and self.replayed

    def line(self) -> str:
        """The last line of the demo."""
        return (
            f"demo: {self.acknowledged} acknowledged, {self.in_log} in the log, "
            f"{self.finished_runs} runs finished, {self.lost} lost, {self.duplicated} duplicated"
        )

    def table(self) -> str:
        """Everything that was counted."""
        rows: list[tuple[str, int, str]] = [
            ("webhooks sent", self.sent, f"{self.sent_again} tries more, under the same ids"),
            ("acknowledged", self.acknowledged, "a 2xx with an id came back"),
            ("in the log", self.in_log, "exactly once, byte for byte"),
            ("receipts too many", self.extra_receipts, ""),
            ("runs expected", self.expected_runs, "by what was sent, and one replay"),
            ("runs finished", self.finished_runs, f"{self.failed_runs} failed or parked"),
            ("runs missing", self.missing_runs, ""),
            ("runs too many", self.extra_runs, "same delivery, same workflow"),
            ("runs that ended twice", self.ended_twice, ""),
            ("nodes completed twice", self.completed_twice, "within one run"),
            ("work items left", self.work_left, ""),
            (
                "webhooks delivered",
                self.delivered,
                f"{self.calls} calls; {self.refused_once} answered 503 at first",
            ),
            ("webhooks missing", self.undelivered, "of runs that finished"),
        ]
        return table(["CHECKED", "COUNT", ""], rows)


async def check(settings: Settings, told: Demo, sink: Sink) -> Verdict:
    """Asks the log and the receiver."""
    async with operator(settings) as database:
        receipts = await audit.receipts(database, told.acknowledged)
        history = await audit.history(database)
        left = await audit.work_left(database)
    runs = history.runs
    firsts = Counter((run.delivery_id, run.workflow) for run in runs if not run.replay)
    completed = {(run.delivery_id, run.workflow) for run in runs if run.completed and not run.replay}
    delivering = {run.id for run in runs if run.completed and run.workflow in DELIVERING}
    got = {UUID(webhook_id[:36]) for webhook_id in sink.calls}  # it begins with the run's id
    return Verdict(
        sent=told.tally.sent,
        acknowledged=receipts.acknowledged,
        sent_again=told.tally.retries,
        in_log=receipts.in_log,
        extra_receipts=receipts.extra,
        expected_runs=len(told.expected) + 1,
        finished_runs=sum(run.completed for run in runs),
        failed_runs=sum(run.ends > 0 and not run.completed for run in runs),
        missing_runs=len(told.expected - completed),
        extra_runs=sum(count - 1 for count in firsts.values()) + len(set(firsts) - told.expected),
        ended_twice=sum(run.ends > 1 for run in runs),
        completed_twice=history.nodes_completed_twice,
        work_left=left,
        delivered=len(got),
        undelivered=len(delivering - got),
        calls=sum(sink.calls.values()) + len(sink.refused),
        refused_once=len(sink.refused),
        replayed=_replayed(told.replayed, runs),
    )


def _replayed(id: UUID | None, runs: list[StartedRun]) -> bool:
    return any(run.id == id and run.replay and run.completed for run in runs)
