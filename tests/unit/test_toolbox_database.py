import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client
from mcp.server.mcpserver.exceptions import ToolError

from mcp_federation.toolbox import bundled, database, seed
from mcp_federation.toolbox.database import Database, DatabaseLimits, make_database

ENDLESS = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT count(*) FROM r"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "a root % with ? odd # signs"
    seed(root)
    return root


def fill(root: Path, script: str) -> None:
    with closing(sqlite3.connect(root / "example.db")) as connection:
        connection.executescript(script)


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


def names(root: Path) -> list[Path]:
    return sorted(root.rglob("*"))


async def call(
    root: Path, limits: DatabaseLimits = database.DEFAULT_LIMITS, **arguments: Any
) -> dict[str, Any]:
    async with Client(make_database(root, limits)) as client:
        result = await client.call_tool("database_mcp", {"database": "example.db"} | arguments)
    if result.is_error:
        text = result.content[0].text  # type: ignore[union-attr]  # errors are text
        assert str(root.parent) not in text
        raise ToolError(text)
    assert result.structured_content is not None
    return dict(result.structured_content)


async def query(root: Path, sql: str, **arguments: Any) -> list[list[Any]]:
    rows: list[list[Any]] = (await call(root, operation="query", sql=sql, **arguments))["rows"]
    return rows


async def test_the_tool_says_that_it_only_reads(root: Path) -> None:
    async with Client(bundled(root)["database_mcp"]) as client:
        (tool,) = (await client.list_tools()).tools
    assert tool.annotations is not None
    assert tool.annotations.read_only_hint is True
    assert list(tool.input_schema["properties"])[:3] == ["operation", "database", "sql"]
    assert all(field.get("description") for field in tool.input_schema["properties"].values())


async def test_tables_lists_tables_and_views_without_sqlite_s_own(root: Path) -> None:
    fill(
        root, "CREATE VIEW old AS SELECT * FROM books; CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)"
    )
    found = await call(root, operation="tables")
    assert [(table["name"], table["kind"]) for table in found["tables"]] == [
        ("authors", "table"),
        ("books", "table"),
        ("old", "view"),
        ("t", "table"),
    ]
    assert (await call(root, DatabaseLimits(rows=1), operation="tables"))["truncated"] is True


async def test_describe_gives_columns_keys_and_indexes(root: Path) -> None:
    found = await call(root, operation="describe", table="books")
    assert [column["name"] for column in found["table_columns"]] == ["id", "title", "year", "author_id"]
    assert found["table_columns"][0] == {
        "name": "id",
        "type": "INTEGER",
        "required": False,
        "primary_key": True,
        "default": None,
    }
    assert found["foreign_keys"] == [{"column": "author_id", "table": "authors", "references": "id"}]
    assert found["indexes"] == [{"name": "books_by_author", "unique": False, "columns": ["author_id"]}]


async def test_describing_what_is_not_there_says_so(root: Path) -> None:
    for table in ("nothing", "", "books; DROP TABLE books"):
        with pytest.raises(ToolError, match="no table or view"):
            await call(root, operation="describe", table=table)


async def test_a_query_binds_its_parameters_by_place_and_by_name(root: Path) -> None:
    sql = "SELECT title FROM books JOIN authors a ON a.id = author_id WHERE a.name = {} ORDER BY year"
    by_place = await query(root, sql.format("?"), parameters=["Jules Verne"])
    by_name = await query(root, sql.format(":name"), parameters={"name": "Jules Verne"})
    assert by_place == by_name
    assert by_place[0][0] == "Twenty Thousand Leagues Under the Seas"
    assert await query(root, "SELECT ?", parameters=["'; DROP TABLE books; --"]) == [
        ["'; DROP TABLE books; --"]
    ]


async def test_values_keep_their_types_and_stay_json(root: Path) -> None:
    sql = "SELECT 1, 1.5, 'é', NULL, x'00ff', 9e999, CAST(x'ff' AS TEXT), ?"
    assert await query(root, sql, parameters=[True]) == [
        [1, 1.5, "é", None, {"base64": "AP8="}, "inf", "\ufffd", 1]
    ]


async def test_rows_are_bounded_by_the_limit_and_by_their_bytes(root: Path) -> None:
    found = await call(root, operation="query", sql="SELECT id FROM books ORDER BY id", limit=2)
    assert (found["columns"], found["rows"], found["truncated"]) == (["id"], [[1], [2]], True)
    assert (await call(root, operation="query", sql="SELECT id FROM books", limit=5))["truncated"] is False
    narrow = DatabaseLimits(result_bytes=20)
    found = await call(root, narrow, operation="query", sql="SELECT id FROM books ORDER BY id")
    assert (found["rows"], found["truncated"]) == ([[1], [2]], True)
    with pytest.raises(ToolError, match="One row is larger"):
        await call(root, narrow, operation="query", sql="SELECT 'a long text that does not fit'")
    with pytest.raises(ToolError, match="validation error"):
        await call(root, operation="query", sql="SELECT 1", limit=1001)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO authors VALUES (9, 'x', 1)",
        "UPDATE books SET title = ''",
        "DELETE FROM books",
        "DELETE FROM books RETURNING id",
        "WITH x AS (SELECT 1) INSERT INTO authors SELECT 9, 'x', 1",
        "DROP TABLE books",
        "CREATE TABLE x (y)",
        "CREATE TEMP TABLE x (y)",
        "CREATE VIRTUAL TABLE x USING fts5(y)",
        "ALTER TABLE books ADD x",
        "ATTACH 'other.db' AS other",
        "ATTACH ':memory:' AS other",
        "VACUUM",
        "VACUUM INTO 'copy.db'",
        "BEGIN",
        "REINDEX",
        "ANALYZE",
        "PRAGMA journal_mode = WAL",
        "PRAGMA writable_schema = ON",
        "PRAGMA query_only = OFF",
        "PRAGMA database_list",
        "SELECT * FROM pragma_database_list",
        "SELECT load_extension('evil')",
        "UPDATE sqlite_schema SET sql = ''",
    ],
)
async def test_nothing_but_reading_is_allowed(root: Path, sql: str) -> None:
    before = contents(root)
    with pytest.raises(ToolError, match=r"Only reading is allowed|may not be modified"):
        await query(root, sql)
    assert contents(root) == before


async def test_a_connection_cannot_write_even_where_the_authorizer_would_let_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_authorize", lambda *_: sqlite3.SQLITE_OK)
    with pytest.raises(ToolError, match="readonly"):
        await query(root, "DELETE FROM books RETURNING id")


@pytest.mark.parametrize(
    ("sql", "parameters", "reason"),
    [
        ("", None, "gives rows"),
        ("SELECT 1; SELECT 2", None, "one statement"),
        ("SELEKT", None, "syntax error"),
        ("SELECT * FROM nowhere", None, "no such table"),
        ("SELECT ?", [], "[Ii]ncorrect number of bindings"),
        ("SELECT ?", [2**70], "too large"),
        ("SELECT zeroblob(100000000)", None, "too big"),
        ("SELECT replace(hex(zeroblob(500000)), '0', 'xxxxxxxx')", None, "too big"),
        ("SELECT 1\0", None, "SQLite|null"),
    ],
)
async def test_a_statement_that_cannot_be_done_says_why(
    root: Path, sql: str, parameters: list[Any] | None, reason: str
) -> None:
    with pytest.raises(ToolError, match=reason):
        await query(root, sql, parameters=parameters)


async def test_an_endless_query_ends_at_the_deadline(root: Path) -> None:
    with pytest.raises(ToolError, match=r"longer than 0\.2 s"):
        await call(root, DatabaseLimits(seconds=0.2), operation="query", sql=ENDLESS)


async def test_json_and_full_text_tables_can_be_read(root: Path) -> None:
    fill(
        root,
        """CREATE VIRTUAL TABLE "no""tes" USING fts5(body); INSERT INTO "no""tes" VALUES ('hello world')""",
    )
    assert await query(root, "SELECT value FROM json_each('[1, 2]')") == [[1], [2]]
    assert await query(root, """SELECT body FROM "no""tes" WHERE "no""tes" MATCH 'hello'""") == [
        ["hello world"]
    ]
    assert await query(root, "SELECT name FROM pragma_table_info('authors')") == [["id"], ["name"], ["born"]]


async def test_a_virtual_table_whose_module_is_missing_spoils_only_itself(root: Path) -> None:
    fill(
        root,
        "PRAGMA writable_schema = ON; INSERT INTO sqlite_schema VALUES "
        "('table', 'odd', 'odd', 0, 'CREATE VIRTUAL TABLE odd USING no_such_module()')",
    )
    assert len(await query(root, "SELECT * FROM books")) == 5
    with pytest.raises(ToolError, match="no such module"):
        await query(root, "SELECT * FROM odd")


async def test_reading_goes_on_while_another_process_could_write_ahead(root: Path) -> None:
    with closing(sqlite3.connect(root / "example.db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE books SET year = 2000 WHERE id = 1")
        assert await query(root, "SELECT year FROM books WHERE id = 1") == [[1818]]
        writer.commit()
        assert await query(root, "SELECT year FROM books WHERE id = 1") == [[2000]]


async def test_reading_what_a_crash_left_does_not_mend_the_file(root: Path, tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.mkdir()
    with closing(sqlite3.connect(root / "example.db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE books SET year = 2000 WHERE id = 1")
        writer.commit()
        for name in ("example.db", "example.db-wal"):
            (left / name).write_bytes((root / name).read_bytes())
    before = (left / "example.db").read_bytes()
    assert await query(left, "SELECT year FROM books WHERE id = 1") == [[2000]]
    assert (left / "example.db").read_bytes() == before


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("absent.db", "does not exist"),
        ("../outside.db", "'..'"),
        ("/etc/passwd", "absolute"),
        ("link.db", "symbolic link"),
        ("way_out/outside.db", "symbolic link"),
        (".", "is a folder"),
        ("example.txt", "not a database"),
        ("example.db?mode=rwc", "does not exist"),
    ],
)
async def test_a_database_that_cannot_be_read_says_why_and_is_not_made(
    root: Path, path: str, reason: str
) -> None:
    (root.parent / "outside.db").write_bytes((root / "example.db").read_bytes())
    (root / "link.db").symlink_to(root.parent / "outside.db")
    (root / "way_out").symlink_to(root.parent)
    before = names(root)
    for operation in ("tables", "describe", "query"):
        with pytest.raises(ToolError, match=reason):
            await call(root, operation=operation, database=path, sql="SELECT 1", table="books")
    assert names(root) == before


async def test_a_database_replaced_while_it_is_opened_is_not_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root.parent / "outside.db").write_bytes((root / "example.db").read_bytes())
    connect = sqlite3.connect

    def replace(link: bool) -> Any:
        def connect_late(*args: Any, **kwargs: Any) -> Any:
            (root / "example.db").unlink()
            if link:
                (root / "example.db").symlink_to(root.parent / "outside.db")
            else:
                (root / "example.db").write_bytes((root.parent / "outside.db").read_bytes())
            return connect(*args, **kwargs)

        return connect_late

    (root / "kept").hardlink_to(root / "example.db")  # so that its inode is not used again
    monkeypatch.setattr(sqlite3, "connect", replace(link=False))
    with pytest.raises(ToolError, match="was replaced"):
        await query(root, "SELECT 1")
    monkeypatch.setattr(sqlite3, "connect", replace(link=True))
    with pytest.raises(ToolError, match="symbolic link"):
        await query(root, "SELECT 1")


WORDS = """
    SELECT FROM WHERE INSERT INTO DELETE UPDATE SET ATTACH PRAGMA CREATE TABLE ( ) * , ; = 1 'x' books id AS
    WITH EXPLAIN VACUUM load_extension writable_schema DROP RETURNING UNION VALUES
"""
STATEMENTS = st.lists(st.sampled_from(WORDS.split()), max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def standing_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("standing")
    seed(root)
    return root


@settings(deadline=None)
@given(sql=STATEMENTS | st.text())
def test_no_statement_changes_anything(standing_root: Path, sql: str) -> None:
    before = contents(standing_root)
    try:
        shown = str(Database(standing_root).query("example.db", sql, (), 10))
    except ToolError as error:
        shown = str(error)
    assert str(standing_root) not in shown
    assert contents(standing_root) == before


def test_seeding_again_changes_nothing_and_mends_what_is_missing(tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    seed(root)
    (root / "example.txt").write_text("changed by its user")
    (root / "example.db").unlink()
    seed(root)
    assert (root / "example.txt").read_text() == "changed by its user"
    assert sorted(path.name for path in root.iterdir()) == ["example.db", "example.txt"]


def test_a_folder_that_holds_something_else_is_not_seeded(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    seed(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


async def test_the_module_server_reads_the_current_folder_when_nothing_is_set(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MCP_FEDERATION_TOOLBOX_ROOT", raising=False)
    monkeypatch.chdir(root)
    database._server.cache_clear()
    try:
        async with Client(database.server) as client:
            result = await client.call_tool("database_mcp", {"operation": "tables", "database": "example.db"})
    finally:
        database._server.cache_clear()
    assert not result.is_error
    with pytest.raises(AttributeError, match="no attribute 'client'"):
        _ = database.client
