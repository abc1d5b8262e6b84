"""Which provider a call goes to, and what a client learns from its calls."""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.catalog.state import CatalogTool
from mcp_federation.client.balancing import FAILURES, FIRST_PAUSE, HOME_BIAS, MAX_PAUSE, Balancer
from mcp_federation.contract.messages import CatalogEntry, Tool
from mcp_federation.contract.subjects import EXECUTE
from mcp_federation.errors import (
    BusUnavailable,
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    FederationError,
    InternalError,
    InvalidArguments,
    NodeLost,
    NodeUnavailable,
    Overloaded,
    PayloadTooLarge,
    ServerUnavailable,
    ToolFailed,
)


def provider(node: str, name: str = "echo") -> CatalogTool:
    entry = CatalogEntry(
        node=node,
        tool=Tool(name=name),
        digest="sha256:" + "0" * 64,
        approval="",
        execute_subject=EXECUTE.of(node, name),
    )
    return CatalogTool(entry, expires=float("inf"))


ACME, BOLT, CIRO = provider("acme"), provider("bolt"), provider("ciro")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Known:
    """What the mesh measured, given by node."""

    def __init__(self, figures: Mapping[str, tuple[float, float]]) -> None:
        self.figures = figures

    def get(self, node: str, tool: str) -> tuple[float, float] | None:
        return self.figures.get(node)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def balancer(clock: Clock) -> Balancer:
    return Balancer(clock=clock, rng=random.Random(7))


def firsts(balancer: Balancer, *providers: CatalogTool, calls: int = 400) -> Counter[str]:
    return Counter(balancer.order(providers)[0].node for _ in range(calls))


def call(balancer: Balancer, tool: CatalogTool, seconds: float, error: FederationError | None = None) -> None:
    balancer.started(tool)
    balancer.finished(tool, seconds, error)


def trip(balancer: Balancer, tool: CatalogTool) -> None:
    for _ in range(FAILURES):
        call(balancer, tool, 0.01, NodeUnavailable("nobody"))


NODES = st.lists(st.sampled_from([f"n{number}" for number in range(6)]), unique=True, max_size=6)
ERRORS = st.sampled_from(
    [
        None,
        ToolFailed("it broke"),
        NodeUnavailable("nobody"),
        ServerUnavailable("down"),
        DeadlineExceeded("late"),
        Overloaded("full"),
        Cancelled("gone"),
        ConnectionLost("cut"),
    ]
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["start", "finish", "wait"]),
        st.integers(0, 5),
        st.floats(0, 30),
        ERRORS,
    ),
    max_size=40,
)


@given(nodes=NODES, steps=STEPS, seed=st.integers(0, 2**32), home=st.sampled_from([None, "n0", "else"]))
def test_whatever_happened_every_provider_is_offered_once(
    nodes: list[str], steps: list[tuple[str, int, float, FederationError | None]], seed: int, home: str | None
) -> None:
    clock = Clock()
    balancer = Balancer(home=home, clock=clock, rng=random.Random(seed), max_providers=4)
    for what, number, seconds, error in steps:
        tool = provider(f"n{number}")
        if what == "start":
            balancer.started(tool)
        elif what == "finish":
            balancer.finished(tool, seconds, error)
        else:
            clock.now += seconds
    offered = balancer.order([provider(node) for node in nodes])
    assert sorted(tool.node for tool in offered) == sorted(nodes)
    assert len(balancer) <= 4


def test_providers_of_which_nothing_is_known_share_the_calls(balancer: Balancer) -> None:
    counts = firsts(balancer, ACME, BOLT, CIRO, calls=3000)
    assert all(850 < counts[tool.node] < 1150 for tool in (ACME, BOLT, CIRO))


def test_of_two_providers_the_one_with_fewer_calls_in_flight_is_taken(balancer: Balancer) -> None:
    balancer.started(ACME)
    assert firsts(balancer, ACME, BOLT)["bolt"] > 360
    balancer.finished(ACME, 0.001)
    call(balancer, BOLT, 0.001)
    balancer.started(BOLT)
    assert firsts(balancer, ACME, BOLT)["acme"] > 360


def test_the_dearer_of_two_is_still_taken_now_and_then(balancer: Balancer) -> None:
    call(balancer, ACME, 5.0)
    call(balancer, BOLT, 0.01)
    assert 0 < firsts(balancer, ACME, BOLT, calls=2000)["acme"] < 60


def test_the_last_offered_is_the_dearest(clock: Clock) -> None:
    figures = Known({"acme": (1.0, 10.0), "bolt": (1.0, 500.0), "ciro": (1.0, 20.0)})
    balancer = Balancer(figures, clock=clock, rng=random.Random(3))
    lasts = Counter(balancer.order([BOLT, ACME, CIRO])[-1].node for _ in range(200))
    assert lasts["bolt"] > 190


@pytest.mark.parametrize("worse", [(1.0, 100.0), (0.2, 10.0)], ids=["slower", "fails more"])
def test_what_the_mesh_measured_decides_before_one_has_seen_anything(
    clock: Clock, worse: tuple[float, float]
) -> None:
    balancer = Balancer(Known({"acme": worse, "bolt": (1.0, 10.0)}), clock=clock, rng=random.Random(3))
    assert firsts(balancer, ACME, BOLT)["bolt"] > 360


def test_what_one_has_seen_outweighs_what_the_mesh_measured_and_fades(clock: Clock) -> None:
    balancer = Balancer(Known({"acme": (1.0, 10.0), "bolt": (1.0, 30.0)}), clock=clock, rng=random.Random(3))
    call(balancer, ACME, 5.0)
    assert firsts(balancer, ACME, BOLT)["bolt"] > 360
    clock.now += 600
    assert firsts(balancer, ACME, BOLT)["acme"] > 360


def test_one_sample_after_a_while_without_any_replaces_what_was_seen_before(
    balancer: Balancer, clock: Clock
) -> None:
    call(balancer, BOLT, 0.1)
    for _ in range(20):
        call(balancer, ACME, 5.0)
    clock.now += 12
    call(balancer, ACME, 0.01)
    call(balancer, BOLT, 0.1)
    assert firsts(balancer, ACME, BOLT)["acme"] > 360


def test_home_is_preferred_until_it_costs_a_stated_multiple_of_another(clock: Clock) -> None:
    def first(latency: float) -> Counter[str]:
        figures = Known({"acme": (1.0, latency), "bolt": (1.0, 10.0), "ciro": (1.0, 10.0)})
        balancer = Balancer(figures, home="acme", clock=clock, rng=random.Random(3))
        return firsts(balancer, ACME, BOLT, CIRO)

    assert first(9.0 / HOME_BIAS)["acme"] > 360
    assert first(11.0 / HOME_BIAS)["acme"] < 40


def test_a_refusal_at_once_does_not_pass_for_a_low_latency(balancer: Balancer) -> None:
    for _ in range(30):
        call(balancer, ACME, 0.0005, Overloaded("full"))
    call(balancer, BOLT, 0.2)
    assert firsts(balancer, ACME, BOLT)["bolt"] > 360


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (NodeUnavailable("nobody"), 0.001),
        (NodeLost("gone"), 0.5),
        (ServerUnavailable("down"), 0.01),
        (InternalError("odd"), 0.01),
        (DeadlineExceeded("late"), 5.0),
    ],
    ids=lambda value: value.code if isinstance(value, FederationError) else "",
)
def test_a_circuit_opens_when_a_provider_fails_in_a_row(
    balancer: Balancer, error: FederationError, seconds: float
) -> None:
    for _ in range(FAILURES):
        assert balancer.order([ACME, BOLT, CIRO])
        call(balancer, ACME, seconds, error)
    assert firsts(balancer, ACME, BOLT, CIRO)["acme"] == 0
    assert all(balancer.order([ACME, BOLT, CIRO])[-1] is ACME for _ in range(20))


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (ToolFailed("it broke"), 0.01),
        (InvalidArguments("no such thing"), 0.01),
        (PayloadTooLarge("much"), 0.01),
        (Overloaded("full"), 0.01),
        (Cancelled("gone"), 0.01),
        (ConnectionLost("cut"), 0.01),
        (BusUnavailable("cut"), 0.01),
        (DeadlineExceeded("in a hurry"), 0.1),
    ],
    ids=lambda value: value.code if isinstance(value, FederationError) else "",
)
def test_no_circuit_opens_for_what_is_not_the_providers_fault(
    balancer: Balancer, clock: Clock, error: FederationError, seconds: float
) -> None:
    for _ in range(10 * FAILURES):
        call(balancer, ACME, seconds, error)
        call(balancer, BOLT, 30.0)
    clock.now += 3600  # what was seen has faded; a circuit would now be due for a probe, and come first
    call(balancer, BOLT, 0.00001)
    assert 0 < firsts(balancer, ACME, BOLT)["acme"] < 400


def test_an_answer_between_failures_keeps_the_circuit_closed(balancer: Balancer, clock: Clock) -> None:
    for _ in range(FAILURES):
        for _ in range(FAILURES - 1):
            call(balancer, ACME, 0.01, ServerUnavailable("down"))
        call(balancer, ACME, 0.01, ToolFailed("it broke"))
    clock.now += 3600
    call(balancer, BOLT, 0.00001)
    assert 0 < firsts(balancer, ACME, BOLT)["acme"] < 400


def test_a_provider_that_is_alone_is_offered_with_an_open_circuit_too(balancer: Balancer) -> None:
    trip(balancer, ACME)
    assert balancer.order([ACME]) == [ACME]
    trip(balancer, BOLT)
    assert {tool.node for tool in balancer.order([ACME, BOLT])} == {"acme", "bolt"}


def test_after_a_pause_one_call_probes_and_an_answer_closes_the_circuit(
    balancer: Balancer, clock: Clock
) -> None:
    trip(balancer, ACME)
    clock.now += FIRST_PAUSE
    assert balancer.order([ACME, BOLT])[0] is ACME
    balancer.started(ACME)
    assert firsts(balancer, ACME, BOLT)["acme"] == 0, "one probe is enough"
    balancer.finished(ACME, 0.001)
    call(balancer, BOLT, 0.05)
    assert firsts(balancer, ACME, BOLT)["acme"] > 360


def test_a_failed_probe_makes_the_pause_longer_up_to_a_bound(balancer: Balancer, clock: Clock) -> None:
    trip(balancer, ACME)
    pauses = []
    for _ in range(8):
        began = clock.now
        while balancer.order([ACME, BOLT])[0] is not ACME:
            clock.now += 0.1
        pauses.append(clock.now - began)
        call(balancer, ACME, 0.001, NodeUnavailable("nobody"))
    assert 0.5 * FIRST_PAUSE <= pauses[0] <= FIRST_PAUSE + 0.1
    assert pauses[3] > 3 * pauses[0]
    assert all(0.5 * MAX_PAUSE <= pause <= MAX_PAUSE + 0.1 for pause in pauses[-3:])


def test_probes_of_many_clients_are_spread_in_time(clock: Clock) -> None:
    def pause(seed: int) -> float:
        clock = Clock()
        balancer = Balancer(clock=clock, rng=random.Random(seed))
        trip(balancer, ACME)
        while balancer.order([ACME, BOLT])[0] is not ACME:
            clock.now += 0.01
        return round(clock.now, 2)

    assert len({pause(seed) for seed in range(20)}) > 10


def test_failures_of_calls_that_were_under_way_do_not_lengthen_the_pause(
    balancer: Balancer, clock: Clock
) -> None:
    for _ in range(64):
        balancer.started(ACME)
    for _ in range(64):
        balancer.finished(ACME, 0.5, NodeLost("gone"))
    clock.now += FIRST_PAUSE
    assert balancer.order([ACME, BOLT])[0] is ACME


@pytest.mark.parametrize("told", [True, False], ids=["cancelled", "never told of"])
def test_a_probe_without_a_finding_makes_room_for_another(
    balancer: Balancer, clock: Clock, told: bool
) -> None:
    trip(balancer, ACME)
    clock.now += FIRST_PAUSE
    balancer.started(ACME)
    if told:
        balancer.finished(ACME, 0.01, Cancelled("gone"))
    else:
        clock.now += FIRST_PAUSE
    assert balancer.order([ACME, BOLT])[0] is ACME


def test_two_providers_that_are_due_are_not_probed_by_one_call(balancer: Balancer, clock: Clock) -> None:
    trip(balancer, ACME)
    trip(balancer, BOLT)
    clock.now += FIRST_PAUSE
    order = balancer.order([ACME, BOLT, CIRO])
    assert order[1] is CIRO


def test_what_was_used_longest_ago_is_forgotten_first(clock: Clock) -> None:
    balancer = Balancer(clock=clock, rng=random.Random(3), max_providers=2)
    trip(balancer, ACME)
    trip(balancer, BOLT)
    call(balancer, ACME, 0.01, NodeUnavailable("nobody"))
    call(balancer, CIRO, 0.01)
    assert len(balancer) == 2
    balancer.finished(BOLT, 0.01)  # of a call that began before it was forgotten
    assert balancer.order([ACME, BOLT])[0] is BOLT


class Simulation:
    """Calls that arrive at random on providers that take their time; by a seed, in simulated seconds."""

    def __init__(self, serve: Callable[[str, float], tuple[float, FederationError | None]]) -> None:
        self.clock = Clock()
        self.clock.now = 0.0
        self.rng = random.Random(11)
        self.balancer = Balancer(clock=self.clock, rng=random.Random(12))
        self.serve = serve
        self.under_way: list[tuple[float, int, float, CatalogTool, FederationError | None]] = []
        self.served: list[tuple[float, str]] = []

    def run(self, seconds: float, rate: float) -> None:
        end, number = self.clock.now + seconds, 0
        while self.clock.now < end:
            arrival = self.clock.now + self.rng.expovariate(rate)
            while self.under_way and self.under_way[0][0] <= arrival:
                self.clock.now, _, took, tool, error = heapq.heappop(self.under_way)
                self.balancer.finished(tool, took, error)
            self.clock.now = arrival
            tool = self.balancer.order([ACME, BOLT, CIRO])[0]
            self.balancer.started(tool)
            self.served.append((arrival, tool.node))
            took, error = self.serve(tool.node, arrival)
            heapq.heappush(self.under_way, (arrival + took, number := number + 1, took, tool, error))

    def share(self, node: str, since: float, until: float) -> float:
        nodes = [name for at, name in self.served if since <= at < until]
        return nodes.count(node) / len(nodes)


def test_in_a_simulation_a_slow_provider_gets_less_and_more_again_when_it_is_quick() -> None:
    def serve(node: str, now: float) -> tuple[float, None]:
        return (0.5 if node == "acme" and 20 <= now < 40 else 0.02), None

    simulation = Simulation(serve)
    simulation.run(80, rate=200)
    assert 0.25 < simulation.share("acme", 5, 20) < 0.42
    assert simulation.share("acme", 22, 40) < 0.05
    assert 0.25 < simulation.share("acme", 50, 80) < 0.42


def test_in_a_simulation_a_failing_provider_is_left_and_regained() -> None:
    def serve(node: str, now: float) -> tuple[float, FederationError | None]:
        if node == "acme" and 20 <= now < 40:
            return 0.001, ServerUnavailable("down")
        return 0.02, None

    simulation = Simulation(serve)
    simulation.run(90, rate=200)
    failed = [at for at, node in simulation.served if node == "acme" and 20 <= at < 40]
    assert FAILURES <= len(failed) < FAILURES + 12, "the first, and then probes alone"
    assert 0.25 < simulation.share("acme", 40 + MAX_PAUSE + 5, 90) < 0.42
