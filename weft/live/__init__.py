"""What goes on, told to whoever listens: in this process, and in every other one over the same home or database."""

from weft.live.frames import RUNS, Frame
from weft.live.hub import Hub, Listening

__all__ = ["RUNS", "Frame", "Hub", "Listening"]
