"""What is known of providers and models without asking them: parameters, limits, capabilities, prices, credentials.

    build (LiteLLM, once) ──▶ models.json ──load──▶ Catalogue ──▶ check, form, `weft models`, docs

The modules, lowest first: `model` (what is known), `shipped` (read what is shipped, and a file of one's own above it),
`build` (make what is shipped; the only one that imports LiteLLM, and nothing imports it).
"""

from weft.catalogue.model import Catalogue, Cost, Model, Prices, Provider, Unfit
from weft.catalogue.shipped import load

__all__ = ["Catalogue", "Cost", "Model", "Prices", "Provider", "Unfit", "load"]
