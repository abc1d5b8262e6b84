"""The `database_mcp` toolbox: read SQLite databases held inside one folder."""

import base64
import math
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Required, cast

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field
from typing_extensions import TypedDict

from mcp_federation.toolbox.folder import Folder, environment_root, shown, split

Operation = Literal["tables", "describe", "query"]
Scalar = str | int | float | bool | None
Parameters = Sequence[Scalar] | dict[str, Scalar]

NAME = "database_mcp"
DESCRIPTION = """\
Database tool that reads SQLite databases of one shared folder. Use it to see what a database holds \
(`tables`), how a table is built (`describe`: columns, keys, indexes), and to answer questions with a SELECT \
(`query`, with parameters bound to ? or :name). It never writes: INSERT, UPDATE, DELETE, DDL, ATTACH and \
changing a PRAGMA are refused."""

_MAX_SQL = 20_000
_STEPS = 1000  # virtual machine steps between looks at the clock
_READS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_SCHEMA_PRAGMAS = frozenset({"table_info", "table_xinfo", "foreign_key_list", "index_list", "index_info"})
_READING_PRAGMAS = _SCHEMA_PRAGMAS | {"data_version"}  # which full text search looks at
_TABLE_FUNCTIONS = ("json_each", "json_tree", *(f"pragma_{name}" for name in sorted(_SCHEMA_PRAGMAS)))
_MAX_VIRTUAL_TABLES = 1000


@dataclass(frozen=True)
class DatabaseLimits:
    """Bounds of one call: seconds, rows, bytes of values in a result, bytes of any one value, columns."""

    seconds: float = 5.0
    rows: int = 1000
    result_bytes: int = 1024 * 1024
    value_bytes: int = 1024 * 1024
    columns: int = 256


DEFAULT_LIMITS = DatabaseLimits()


class Blob(TypedDict):
    """A binary value."""

    base64: Annotated[str, Field(description="The bytes in base64")]


Value = str | int | float | Blob | None


class Table(TypedDict):
    """A table or view."""

    name: Annotated[str, Field(description="Its name")]
    kind: Annotated[str, Field(description="table or view")]


class Column(TypedDict):
    """A column of a table or view."""

    name: Annotated[str, Field(description="Its name")]
    type: Annotated[str, Field(description="Its declared type, perhaps empty")]
    required: Annotated[bool, Field(description="Whether NULL is refused")]
    primary_key: Annotated[bool, Field(description="Whether it is part of the primary key")]
    default: Annotated[str | None, Field(description="The SQL of its default value")]


class ForeignKey(TypedDict):
    """A column that refers to another table."""

    column: Annotated[str, Field(description="The column")]
    table: Annotated[str, Field(description="The table that it refers to")]
    references: Annotated[str | None, Field(description="That table's column; null for its primary key")]


class Index(TypedDict):
    """An index of a table."""

    name: Annotated[str, Field(description="Its name")]
    unique: Annotated[bool, Field(description="Whether its values are unique")]
    columns: Annotated[list[str], Field(description="Its columns, in order; '' for an expression")]


class DatabaseResult(TypedDict, total=False):
    """What an operation found; each operation fills its own fields."""

    operation: Required[Annotated[Operation, Field(description="The operation done")]]
    database: Required[Annotated[str, Field(description="The database's path")]]
    tables: Annotated[list[Table], Field(description="tables: tables and views, by name")]
    table: Annotated[str, Field(description="describe: the table")]
    table_columns: Annotated[list[Column], Field(description="describe: the columns, in order")]
    foreign_keys: Annotated[list[ForeignKey], Field(description="describe: references to other tables")]
    indexes: Annotated[list[Index], Field(description="describe: the indexes")]
    columns: Annotated[list[str], Field(description="query: the result's column names")]
    rows: Annotated[list[list[Value]], Field(description="query: rows of values, as `columns`")]
    truncated: Annotated[bool, Field(description="tables, query: there is more than is shown")]


@dataclass(frozen=True)
class Database:
    """Reading operations on the databases below a root folder. Each raises ToolError."""

    root: Path
    limits: DatabaseLimits = DEFAULT_LIMITS

    @contextmanager
    def _connect(self, path: str) -> Iterator[sqlite3.Connection]:
        """A connection that can only read, and not beyond the deadline."""
        parts = split(path)
        with Folder.open(self.root) as root, _plain_errors(self.limits):
            before = root.regular(parts)
            uri = self.root.resolve().joinpath(*parts).as_uri() + "?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=self.limits.seconds)) as connection:
                _confine(connection, self.limits)
                # SQLite takes a path, not a descriptor: see that nothing was put in its place meanwhile.
                after = root.regular(parts)
                if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino):
                    raise ToolError(f"{shown(path)} was replaced while it was opened")
                yield connection

    def tables(self, path: str) -> DatabaseResult:
        """The tables and views, by name."""
        sql = (
            "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') "
            "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
        )
        with self._connect(path) as connection:
            _, rows, truncated = self._fetch(connection, sql, (), self.limits.rows)
        tables = [Table(name=str(name), kind=str(kind)) for name, kind in rows]
        return DatabaseResult(operation="tables", database=path, tables=tables, truncated=truncated)

    def describe(self, path: str, table: str) -> DatabaseResult:
        """A table's or view's columns, foreign keys and indexes."""
        with self._connect(path) as connection:

            def rows(sql: str, subject: str = table) -> list[tuple[Any, ...]]:
                return connection.execute(sql, (subject,)).fetchall()

            columns = [
                Column(name=name, type=kind, required=bool(notnull), primary_key=bool(key), default=default)
                for name, kind, notnull, key, default in rows(
                    'SELECT name, type, "notnull", pk, dflt_value '
                    "FROM pragma_table_xinfo(?) WHERE hidden <> 1"
                )
            ]
            if not columns:
                raise ToolError(f"There is no table or view {shown(table)}: list them with `tables`")
            keys = rows('SELECT "from", "table", "to" FROM pragma_foreign_key_list(?) ORDER BY id, seq')
            indexes = rows('SELECT name, "unique" FROM pragma_index_list(?) ORDER BY name')
            members = "SELECT coalesce(name, '') FROM pragma_index_info(?) ORDER BY seqno"
            return DatabaseResult(
                operation="describe",
                database=path,
                table=table,
                table_columns=columns,
                foreign_keys=[ForeignKey(column=of, table=to, references=column) for of, to, column in keys],
                indexes=[
                    Index(
                        name=name, unique=bool(unique), columns=[column for (column,) in rows(members, name)]
                    )
                    for name, unique in indexes
                ],
            )

    def query(self, path: str, sql: str, parameters: Parameters, limit: int) -> DatabaseResult:
        """The rows that one SELECT gives."""
        with self._connect(path) as connection:
            columns, rows, truncated = self._fetch(connection, sql, parameters, limit)
        return DatabaseResult(
            operation="query", database=path, columns=columns, rows=rows, truncated=truncated
        )

    def _fetch(
        self, connection: sqlite3.Connection, sql: str, parameters: Parameters, limit: int
    ) -> tuple[list[str], list[list[Value]], bool]:
        cursor = connection.execute(sql, parameters)
        if cursor.description is None:
            raise ToolError("Only a statement that gives rows, such as SELECT, is allowed")
        columns, rows, left = (
            [column[0] for column in cursor.description],
            list[list[Value]](),
            self.limits.result_bytes,
        )
        for row in cursor:
            left -= sum(_size(value) for value in row)
            if left < 0 and not rows:
                raise ToolError(
                    f"One row is larger than {self.limits.result_bytes} bytes: choose fewer columns"
                )
            if left < 0 or len(rows) == limit:
                return columns, rows, True
            rows.append([_value(value) for value in row])
        return columns, rows, False


def _confine(connection: sqlite3.Connection, limits: DatabaseLimits) -> None:
    """Leave a connection nothing but reading, within the bounds."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limits.value_bytes)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, max(_MAX_SQL, limits.value_bytes))
    connection.setlimit(sqlite3.SQLITE_LIMIT_COLUMN, limits.columns)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 256)  # no deadline interrupts a LIKE
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    connection.execute("PRAGMA trusted_schema = OFF")  # the file's own views and triggers are not trusted
    connection.execute("PRAGMA query_only = ON")
    deadline = time.monotonic() + limits.seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    _open_virtual_tables(connection)
    connection.set_authorizer(_authorize)


def _open_virtual_tables(connection: sqlite3.Connection) -> None:
    """Open what the authorizer would refuse to: a virtual table's first use declares it, as if writing."""
    found = connection.execute("SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL TABLE %'")
    for name in [*_TABLE_FUNCTIONS, *(name for (name,) in found.fetchmany(_MAX_VIRTUAL_TABLES))]:
        quoted = '"' + name.replace('"', '""') + '"'
        with suppress(sqlite3.OperationalError):  # of a module that is not here; using it says so again
            connection.execute(f"SELECT 1 FROM {quoted} LIMIT 0")  # noqa: S608  # a quoted name


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    allowed = (
        action in _READS
        or (action == sqlite3.SQLITE_FUNCTION and second != "load_extension")
        or (action == sqlite3.SQLITE_PRAGMA and first in _READING_PRAGMAS)
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


@contextmanager
def _plain_errors(limits: DatabaseLimits) -> Iterator[None]:
    """Turn what SQLite raises into ToolError; its own texts show no paths."""
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
        text = str(error)
        if "authoriz" in text or "prohibited" in text:
            raise ToolError(f"Only reading is allowed here ({text})") from error
        if text == "interrupted":
            raise ToolError(f"This took longer than {limits.seconds:g} s: ask for less") from error
        raise ToolError(f"SQLite: {text[:500]}") from error


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes) else 8


def _value(value: Any) -> Value:
    if isinstance(value, bytes):
        return Blob(base64=base64.b64encode(value).decode())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinities
    return cast(Value, value)


def make_database(root: Path, limits: DatabaseLimits = DEFAULT_LIMITS) -> MCPServer[Any]:
    """A server whose one tool reads the SQLite databases below `root`."""
    server: MCPServer[Any] = MCPServer(
        NAME, title="Database", description="SQLite databases of one shared folder.", version="1.0.0"
    )
    reader = Database(root, limits)

    @server.tool(
        name=NAME,
        title="SQLite database (read-only)",
        description=DESCRIPTION,
        annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False),
    )
    def database_mcp(
        operation: Annotated[Operation, Field(description="What to do with the database")],
        database: Annotated[
            str, Field(max_length=4096, description="The SQLite file, relative to the shared folder")
        ],
        sql: Annotated[
            str, Field(max_length=_MAX_SQL, description="query: one SELECT (or WITH … SELECT) statement")
        ] = "",
        parameters: Annotated[
            list[Scalar] | dict[str, Scalar] | None,
            Field(description="query: values for ? in order, or for :name by name"),
        ] = None,
        table: Annotated[str, Field(max_length=1000, description="describe: the table or view")] = "",
        limit: Annotated[
            int, Field(ge=1, le=limits.rows, description="query: the most rows to return")
        ] = min(100, limits.rows),
    ) -> DatabaseResult:
        match operation:
            case "tables":
                return reader.tables(database)
            case "describe":
                return reader.describe(database, table)
            case "query":
                return reader.query(database, sql, parameters or (), limit)

    return server


@cache
def _server() -> MCPServer[Any]:
    return make_database(environment_root())


def __getattr__(name: str) -> MCPServer[Any]:
    if name == "server":
        return _server()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
