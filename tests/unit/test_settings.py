"""Settings: what does not fit is refused at the start, in words."""

from math import inf

import pytest

from mcp_federation.errors import InvalidRequest
from mcp_federation.settings import load_settings


@pytest.mark.parametrize(
    ("setting", "days"),
    [
        ("metrics_days", 1e-9),
        ("metrics_days", 1e9),
        ("metrics_days", inf),
        ("approval_days", 0),
        ("approval_days", 1e9),
    ],
)
def test_days_that_no_clock_can_count_are_refused_by_the_name_of_their_setting(
    setting: str, days: float
) -> None:
    with pytest.raises(InvalidRequest, match=setting):
        load_settings(**{setting: days})
