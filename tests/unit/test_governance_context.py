"""The catalog as the checks see it: by name, by look and by description."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_federation.governance.checks.context import CatalogView, Published
from mcp_federation.governance.checks.reading import read
from tests.support.registrations import (
    CLEAN,
    a_registration,
    a_tool,
    rules,
    security_findings,
)

WEATHER = Published(node="acme", name="weather.forecast", server="weather", description=CLEAN)
TWIN = Published(node="globex", name="weather.forecast", server="weather", description=CLEAN)

published = st.builds(
    Published,
    node=st.sampled_from(["acme", "globex"]),
    name=st.sampled_from(["a.get", "a.got", "get", "b.g\u0435t"]),
    server=st.sampled_from(["", "a", "b"]),
    description=st.sampled_from(["", CLEAN, "one two three four"]),
)


def test_a_tool_is_found_by_the_name_that_its_server_gives_it() -> None:
    assert CatalogView([WEATHER]).called("forecast") == (WEATHER,)
    assert CatalogView([WEATHER]).called("weather.forecast") == ()


def test_a_tool_is_found_by_names_that_look_like_its_own() -> None:
    view = CatalogView([WEATHER])
    for name in (
        "forecast",
        "f0recast",
        "f\u043erecast",
        "FORECAST",
        "fore_cast",
        "\uff46orecast",
        "fore\u200bcast",
    ):
        assert view.names_like(name) == {("acme", "forecast")}, name
    assert not view.names_like("forecasts")
    assert not view.servers_like("w3ather")
    assert view.servers_like("w\u0435ather") == {("acme", "weather")}


def test_a_tool_is_found_by_a_description_with_much_the_same_words() -> None:
    view = CatalogView([WEATHER])
    ((found, similarity),) = view.described_like(CLEAN.replace("hour", "day"))
    assert found == WEATHER
    assert 0.5 < similarity < 1
    assert list(view.described_like(CLEAN)) == [(WEATHER, 1.0)]
    assert list(view.described_like("Sends a letter to a person by post.")) == []


def test_a_name_that_another_node_has_stays_with_the_same_tool() -> None:
    view = CatalogView([WEATHER])

    def found(description: str, name: str = WEATHER.name, **fields: str) -> set[str]:
        registration = a_registration(a_tool(name, description), **{"node": "globex", **fields})
        return rules(security_findings(registration, view))

    other = "Tells the time of a city, and whether the shops are open."
    for server in ("weather", ""):
        assert found(other, server=server) == {"name-taken"}
        assert found(CLEAN, server=server) == set()
        assert found(f"{CLEAN} Since version two, also for villages.", server=server) == set()
    assert found("", server="weather") == {"name-taken"}
    assert found(other, node="acme") == set()
    assert found(other, name="weather.shops") == set()


def test_case_and_separators_make_no_other_name_of_a_tool() -> None:
    view = CatalogView([WEATHER])
    other = "Tells the time of a city, and whether the shops are open."
    for name, server in (("Weather.fore-cast", "Weather"), ("weather.FORECAST", "weather")):
        for description, expected in ((other, {"name-taken"}), (CLEAN, set())):
            registration = a_registration(a_tool(name, description), node="globex", server=server)
            assert rules(security_findings(registration, view)) == expected


def test_a_server_a_letter_off_another_ones_is_one_that_imitates_it_where_it_has_its_tool() -> None:
    view = CatalogView([WEATHER])

    def found(name: str, server: str, node: str = "globex") -> set[str]:
        registration = a_registration(a_tool(f"{server}.{name}"), node=node, server=server)
        return rules(security_findings(registration, view))

    assert found("forecast", "waether") == {"look-alike-server"}
    assert found("forecast", "waether", node="acme") == set()
    assert found("tides", "waether") == set()
    assert found("forecast", "weather2") == set()
    assert found("forecast", "climate") == set()


def test_two_tools_without_a_description_are_the_same_as_far_as_anybody_can_say() -> None:
    view = CatalogView([Published(node="acme", name="weather.forecast", server="weather")])
    registration = a_registration(a_tool(description=""), node="globex", server="weather")
    assert rules(security_findings(registration, view)) == set()


def test_a_node_is_found_by_names_that_look_like_its_own_while_it_publishes_anything() -> None:
    view = CatalogView([TWIN, Published(node="globex", name="other")])
    assert view.nodes_like("gl0bex") == {("globex", "globex")}
    assert rules(security_findings(a_registration(node="gl0bex"), view)) == {"look-alike-node"}
    assert rules(security_findings(a_registration(node="globex"), view)) == set()
    view.drop("globex", "other")
    assert view.nodes_like("gl0bex") == {("globex", "globex")}
    view.drop("globex", TWIN.name)
    assert not view.nodes_like("gl0bex")


def test_a_tool_takes_the_place_of_the_one_that_the_node_published_before() -> None:
    view = CatalogView([WEATHER, TWIN])
    newer = Published(node="acme", name="weather.forecast", server="weather", description="Other words now.")
    view.put(newer)
    assert len(view) == 2
    assert set(view.called("forecast")) == {newer, TWIN}
    assert list(view.described_like(CLEAN)) == [(TWIN, 1.0)]


@given(st.lists(published, max_size=12))
@settings(max_examples=50)
def test_what_was_put_and_dropped_leaves_nothing_behind(tools: list[Published]) -> None:
    view = CatalogView(tools)
    for tool in tools:
        view.drop(tool.node, tool.name)
        view.drop(tool.node, tool.name)
        assert tool not in view.called(tool.bare_name)
    assert len(view) == 0
    for tool in tools:
        assert not view.names_like(tool.bare_name)
        assert not list(view.described_like(tool.description))


def test_a_registration_is_read_beside_an_empty_catalog_unless_one_is_given() -> None:
    view = CatalogView([WEATHER])
    assert read(a_registration(), view).catalog is view
    assert len(read(a_registration()).catalog) == 0
