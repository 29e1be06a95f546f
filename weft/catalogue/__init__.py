"""What is known of providers and models without asking them: parameters, limits, capabilities, prices, credentials.

    build (LiteLLM, once) ──▶ models.json ──load──▶ Catalogue ──▶ check, form, `weft models`, docs

The modules, lowest first: `prices` (what an answer costs), `fit` (what becomes of a parameter), `model` (what is
known), `own` (a file of one's own above it), `shipped` (read what is shipped). `credentials`, `rates`, `probe` and
`build` make what is shipped; only the last two import LiteLLM, and nothing imports these four.
"""

from weft.catalogue.fit import Taking, Unfit
from weft.catalogue.model import CAPABILITIES, Catalogue, Explanation, Model, Provider
from weft.catalogue.own import InvalidCatalogue, json_schema
from weft.catalogue.prices import Cost, Prices, Tier
from weft.catalogue.shipped import catalogue_of, load

__all__ = [
    "CAPABILITIES",
    "Catalogue",
    "Cost",
    "Explanation",
    "InvalidCatalogue",
    "Model",
    "Prices",
    "Provider",
    "Taking",
    "Tier",
    "Unfit",
    "catalogue_of",
    "json_schema",
    "load",
]
