"""The one collection of tables; each room declares its own against it, and the state makes what is missing.

Tables only ever grow: a column that is added later may be null or has a default of the server, so that an older Weft
goes on beside a newer one. A change that an older Weft must not meet raises `LAYOUT`.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn

from weft.errors import StateUnavailable

LAYOUT: Final = 1
"""Of the tables as a whole. A database with a higher one was written by a Weft that this one must not write beside."""

metadata: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

LAYOUTS: Final = sa.Table("weft_layout", metadata, sa.Column("version", sa.Integer, primary_key=True))


def missing(connection: sa.Connection) -> bool:
    """Tell whether something that this process knows of is not there yet.

    Raises:
        StateUnavailable: The tables were written by a newer Weft.
    """
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    if LAYOUTS.name not in there:
        return True
    _refuse_newer(connection)
    names = {name for name in metadata.tables if name in there}
    if len(names) < len(metadata.tables):
        return True
    return any(_absent(inspector, table) for table in metadata.tables.values())


def make(connection: sa.Connection) -> None:
    """Make the tables and columns that are missing; whoever calls it keeps others from doing so at the same time."""
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    if LAYOUTS.name in there:
        _refuse_newer(connection)
    for table in metadata.sorted_tables:
        if table.name not in there:
            table.create(connection)
        else:
            _widen(connection, table, _absent(inspector, table))
    if connection.scalar(sa.select(sa.func.max(LAYOUTS.c.version))) is None:
        connection.execute(LAYOUTS.insert().values(version=LAYOUT))


def _refuse_newer(connection: sa.Connection) -> None:
    version = connection.scalar(sa.select(sa.func.max(LAYOUTS.c.version)))
    if version is not None and version > LAYOUT:
        raise StateUnavailable(
            f"The tables beside the journal have layout {version}, this Weft knows layouts up to {LAYOUT}.",
            code="state_too_new",
            remedy="Use the newer Weft that wrote them.",
        )


def _absent(inspector: sa.Inspector, table: sa.Table) -> list[sa.Column[object]]:
    there = {column["name"] for column in inspector.get_columns(table.name)}
    return [column for column in table.columns if column.name not in there]


def _widen(connection: sa.Connection, table: sa.Table, columns: list[sa.Column[object]]) -> None:
    """Add columns to a table that an older Weft has made, and the indexes over them."""
    prepare = connection.dialect.identifier_preparer
    for column in columns:
        if not column.nullable and column.server_default is None:
            raise ValueError(f"{table.name}.{column.name} is new: it must be nullable, or have a server default")
        words = CreateColumn(column).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {prepare.format_table(table)} ADD COLUMN {words}")
    names = {column.name for column in columns}
    for index in table.indexes:
        if names & {column.name for column in index.columns}:
            index.create(connection)
