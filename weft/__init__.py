"""Weft: workflows whose steps are actions declared by manifests."""

__version__ = "0.1.0"
