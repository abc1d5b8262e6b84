"""How often a client asks overloaded providers again."""

from mcp_federation.client.retries import Allowance


def taken(allowance: Allowance) -> int:
    tries = 0
    while allowance.take():
        tries += 1
    return tries


def test_a_client_has_some_tries_at_first_and_earns_one_by_ten_answers() -> None:
    allowance = Allowance()
    assert taken(allowance) == Allowance.FIRST
    for _ in range(11):
        allowance.earn()
    assert taken(allowance) == 1


def test_tries_are_not_saved_up() -> None:
    allowance = Allowance()
    for _ in range(10_000):
        allowance.earn()
    assert taken(allowance) == Allowance.FIRST
