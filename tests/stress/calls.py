"""The load: calls of every kind at random, and what became of each of them."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from mcp_federation.client import FederationClient
from mcp_federation.contract.messages import Progress
from mcp_federation.errors import FederationError
from tests.support.ledger import Ledger

GRACE = 5.0
"""Seconds beyond its deadline in which a call must have ended, on a machine that is busy."""

SERVERS = ("ledger", "web")
NODES = ("", "@acme", "@globex")
SIZES = (10, 100_000, 3_000_000)


@dataclass(frozen=True)
class Plan:
    """One call that is to be made: `give_up` is after how many seconds its caller leaves."""

    name: str
    tool: str
    call: str
    arguments: dict[str, object]
    expected: str
    timeout: float
    give_up: float | None = None


BLAMES = ("invalid_request", "invalid_arguments", "tool_not_found", "payload_too_large", "internal_error")
"""What no call may be told, whatever happens to nodes and servers: it is valid."""


@dataclass(frozen=True)
class Outcome:
    """What became of it: a value, an error's code and whether it says that nothing ran, or that we left."""

    plan: Plan
    kind: str
    ran: bool | None = None
    problem: str = ""


def make_plan(rng: random.Random, number: int) -> Plan:
    """A call by chance."""
    call = f"call-{number}"
    tool = rng.choices(["charge", "put", "hold", "climb", "echo"], [50, 25, 5, 5, 15])[0]
    arguments: dict[str, object] = {"call": call}
    expected, timeout = call, rng.choices([10.0, 0.03], [95, 5])[0]
    if tool in ("charge", "put"):
        arguments["seconds"] = rng.choice([0.0, 0.0, 0.01, 0.1, 0.5])
    elif tool == "climb":
        arguments, expected = {"steps": 20}, "20"
    elif tool == "echo":
        expected = call * (rng.choices(SIZES, [8, 3, 1])[0] // len(call))
        arguments = {"text": expected}
    elif tool == "hold":
        timeout = 0.2
    give_up = rng.uniform(0, 0.1) if rng.random() < 0.05 else None
    name = f"{rng.choice(SERVERS)}.{tool}{rng.choice(NODES)}"
    return Plan(name, tool, call, arguments, expected, timeout, give_up)


@dataclass
class Load:
    """Makes calls until it is stopped, `in_flight` at a time; every one of them ends in `outcomes`."""

    client: FederationClient
    rng: random.Random
    in_flight: int
    begun: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Make calls until `over` is set, and wait for the last answer."""
        async with asyncio.TaskGroup() as callers:
            for _ in range(self.in_flight):
                callers.create_task(self._caller())

    async def _caller(self) -> None:
        while not self.over.is_set():
            self.begun += 1
            plan = make_plan(self.rng, self.begun)
            began = time.monotonic()
            outcome = await self._outcome(plan)
            took = time.monotonic() - began
            if took > plan.timeout + GRACE:
                outcome = Outcome(plan, outcome.kind, outcome.ran, f"it took {took:.1f} s")
            self.outcomes.append(outcome)

    async def _outcome(self, plan: Plan) -> Outcome:
        task = asyncio.create_task(self._call(plan))
        done, _ = await asyncio.wait({task}, timeout=plan.give_up)
        if not done:
            task.cancel()
            await asyncio.wait({task})
        if task.cancelled():
            return Outcome(plan, "left", None)
        return task.result()

    async def _call(self, plan: Plan) -> Outcome:
        steps: list[float] = []

        def on_progress(progress: Progress) -> None:
            steps.append(progress.progress)

        try:
            watch = on_progress if plan.tool == "climb" else None
            result = await self.client.execute(
                plan.name, plan.arguments, timeout=plan.timeout, on_progress=watch
            )
        except FederationError as error:
            return Outcome(plan, error.code, error.ran)
        except Exception as error:  # noqa: BLE001 - what a caller must never see is what is looked for
            return Outcome(plan, "unexpected", None, f"{type(error).__name__}: {error}")
        wrong = "another value" if result.value != plan.expected else ""
        if steps != sorted(steps) and plan.tool == "climb":
            wrong = "progress out of order"
        return Outcome(plan, "value", True, wrong)


def broken_promises(load: Load, ledger: Ledger) -> list[str]:
    """Every promise that a call broke; none is what one wants."""
    found = [f"{each.plan.name} {each.plan.call}: {each.problem}" for each in load.outcomes if each.problem]
    if len(load.outcomes) != load.begun:
        found.append(f"{load.begun} calls have {len(load.outcomes)} outcomes")
    charged, put = ledger.count("charge"), ledger.count("put")
    found += [f"{call} ran {times} times" for call, times in charged.items() if times > 1]
    blamed = Counter(each.kind for each in load.outcomes if each.kind in BLAMES)
    found += [f"{times} calls were told {kind}" for kind, times in blamed.items()]
    for each in load.outcomes:
        ran = (charged if each.plan.tool == "charge" else put)[each.plan.call]
        if each.plan.tool in ("charge", "put") and each.kind == "value" and not ran:
            found.append(f"{each.plan.call} has a result and never ran")
        if each.plan.tool == "charge" and each.ran is False and ran:
            found.append(f"{each.plan.call} ran, and its caller was told {each.kind}: that nothing did")
    return found


def summary(load: Load) -> str:
    """How many ended how."""
    kinds = Counter(outcome.kind for outcome in load.outcomes)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
