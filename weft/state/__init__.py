"""Small tables beside the journal: who is known, what was saved when, what goes on. SQLite or PostgreSQL.

Importing it loads SQLAlchemy (0.4 s): whoever can do without imports it where it is needed.
"""

from weft.state.news import News
from weft.state.state import State
from weft.state.tables import metadata

__all__ = ["News", "State", "metadata"]
