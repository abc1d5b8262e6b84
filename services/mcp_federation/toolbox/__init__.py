"""Three offline MCP servers of one tool each, to have something real to federate from the first start."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer

from mcp_federation.toolbox import database, file_operations, text_processing
from mcp_federation.toolbox.folder import Folder

_TEXT = """\
This folder is shared with the federation by the bundled toolbox.
Whatever is put here can be read, listed, packed and unpacked by file_operations_mcp.
The example.db beside it is for database_mcp.
"""
_SCHEMA = """
CREATE TABLE authors (id INTEGER PRIMARY KEY, name TEXT NOT NULL, born INTEGER);
CREATE TABLE books (
    id INTEGER PRIMARY KEY, title TEXT NOT NULL, year INTEGER,
    author_id INTEGER NOT NULL REFERENCES authors (id)
);
CREATE INDEX books_by_author ON books (author_id);
INSERT INTO authors VALUES (1, 'Mary Shelley', 1797), (2, 'Jules Verne', 1828), (3, 'Ada Lovelace', 1815);
INSERT INTO books VALUES
    (1, 'Frankenstein', 1818, 1), (2, 'The Last Man', 1826, 1),
    (3, 'Around the World in Eighty Days', 1872, 2), (4, 'Twenty Thousand Leagues Under the Seas', 1870, 2),
    (5, 'Notes on the Analytical Engine', 1843, 3);
"""


def bundled(root: Path) -> dict[str, MCPServer[Any]]:
    """The three servers by name; files and databases are those below `root`."""
    return {
        file_operations.NAME: file_operations.make_file_operations(root),
        text_processing.NAME: text_processing.make_text_processing(),
        database.NAME: database.make_database(root),
    }


def seed(root: Path) -> None:
    """Make `root` and put the examples in it, unless it holds something else; safe to repeat."""
    root.mkdir(parents=True, exist_ok=True)
    examples = {"example.txt": lambda: _TEXT.encode(), "example.db": _example_database}
    with Folder.open(root) as folder:
        present = set(folder.names())
        if present - examples.keys():
            return
        for name in examples.keys() - present:
            with folder.new_file((name,)) as file:
                file.write(examples[name]())


def _example_database() -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return connection.serialize()
