"""Named accounts on other systems: where they come from, and how a step gets one.

A connection lives outside workflows: in the environment, in a file or a mounted directory, in the store, or built in.
Its secrets are read at the last moment, wrapped in `Secret`, and made known to the redactor before anything else sees
them.

    environment → file → directory → store → built in    each a `ConnectionSource`
                        └──▶ Connections ──▶ what is known (plan, list), or a connection opened (a step, a test)

The modules, lowest first: `fields` (what a connection is made of), `base`, the sources `environment`, `file`,
`directory`, `stored` (above `store` and `database`, and their `keys`), `chosen` (all of them in order) and `probing` (does one work?).
`environments` says which connections stand for others in `prod` or `test`.
"""

from weft.connections.base import BuiltIn, ConnectionSource
from weft.connections.chosen import Connections, Listed
from weft.connections.directory import Directory
from weft.connections.environment import Environment
from weft.connections.environments import NamedEnvironment, environment_named, read_environments, unfitting
from weft.connections.fields import (
    checked,
    fields_of,
    from_text,
    missing_secrets,
    open_secrets,
    problems_of,
    settings_of,
    short_secrets,
    without_secret,
)
from weft.connections.file import File
from weft.connections.keys import Keys
from weft.connections.probing import Probed, probe
from weft.connections.store import Store
from weft.connections.stored import ConnectionStore, Stored, store_at

__all__ = [
    "BuiltIn",
    "ConnectionSource",
    "ConnectionStore",
    "Connections",
    "Directory",
    "Environment",
    "File",
    "Keys",
    "Listed",
    "NamedEnvironment",
    "Probed",
    "Store",
    "Stored",
    "checked",
    "environment_named",
    "fields_of",
    "from_text",
    "missing_secrets",
    "open_secrets",
    "probe",
    "problems_of",
    "read_environments",
    "settings_of",
    "short_secrets",
    "store_at",
    "unfitting",
    "without_secret",
]
