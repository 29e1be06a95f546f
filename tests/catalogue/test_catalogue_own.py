"""A file with models and prices of one's own."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import jsonschema
import pytest

from weft.catalogue import Catalogue, InvalidCatalogue, Prices, json_schema, load
from weft.errors import InvalidSource
from weft.source import read

OWN = """\
models:
  hosted_vllm:
    our-qwen:
      like: nebius/Qwen/Qwen3-32B
      max_input_tokens: 32000
      supports: [tools, json_schema]
      prices: {currency: EUR, input: 0.2, output: 0.4, tiers: [{above: 16000, input: 0.3}]}
    our-small:
      parameters: [temperature, max_tokens]
      deprecated_on: "2027-06-30"
  openai:
    our-reasoner: {like: gpt-5}
    gpt-4o:
      prices: {currency: USD, input: 2, output: 8}
"""


def own(text: str, directory: Path) -> Catalogue:
    file = directory / "models.yaml"
    file.write_text(text, "utf-8")
    return load(file)


def problems(text: str, directory: Path) -> list[tuple[str, int | None, str]]:
    with pytest.raises(InvalidCatalogue) as caught:
        own(text, directory)
    return [(problem.code, problem.where.line, str(problem)) for problem in caught.value.problems]


def test_a_private_model_has_what_is_said_and_what_the_model_behind_it_has(tmp_path: Path) -> None:
    """Limits, capabilities and prices of the file stand above those of `like`."""
    catalogue = own(OWN, tmp_path)
    model, like = catalogue.model("hosted_vllm", "our-qwen"), load().model("nebius", "Qwen/Qwen3-32B")
    assert model is not None
    assert like is not None
    assert (model.max_input_tokens, model.max_output_tokens) == (32000, like.max_output_tokens)
    assert model.supports == {"tools", "json_schema"}
    assert model.own
    assert model.prices is not None
    cost = model.prices.cost({"prompt_tokens": 1000, "completion_tokens": 500})
    assert cost is not None
    assert (cost.amount, cost.currency) == (0.0004, "EUR")
    long = model.prices.cost({"prompt_tokens": 20_000, "completion_tokens": 0})
    assert long is not None
    assert long.amount == 0.006


def test_a_private_model_refuses_what_the_model_behind_it_refuses(tmp_path: Path) -> None:
    """A deployment of a reasoner under a name of one's own takes only one temperature, and is not priced like it."""
    catalogue = own(OWN, tmp_path)
    (unfit,) = catalogue.unfit("openai", "our-reasoner", {"temperature": 0.2, "seed": 1})
    assert (unfit.parameter, unfit.reason) == ("temperature", "value")
    assert "'our-reasoner'" in unfit.message
    model = catalogue.model("openai", "our-reasoner")
    assert model is not None
    assert model.prices is None
    assert not model.own


def test_parameters_that_are_listed_are_the_only_ones(tmp_path: Path) -> None:
    """What the list leaves out is refused before a request."""
    catalogue = own(OWN, tmp_path)
    model = catalogue.model("hosted_vllm", "our-small")
    assert model is not None
    assert model.parameters == {"temperature", "max_tokens"}
    assert model.deprecated_on == date(2027, 6, 30)
    assert [each.parameter for each in catalogue.unfit("hosted_vllm", "our-small", {"seed": 1, "temperature": 1})] == [
        "seed"
    ]


def test_a_known_model_may_be_priced_otherwise(tmp_path: Path) -> None:
    """The rest of what is known of it stays, and so does the shipped catalogue."""
    model, shipped = own(OWN, tmp_path).model("openai", "gpt-4o"), load().model("openai", "gpt-4o")
    assert model is not None
    assert shipped is not None
    assert isinstance(model.prices, Prices)
    assert (model.prices.input, model.prices.cached_input) == (2, 2)
    assert (model.supports, model.parameters, model.fit) == (shipped.supports, shipped.parameters, shipped.fit)
    assert shipped.prices is not None
    assert shipped.prices.input == 2.5


def test_models_of_ones_own_are_listed_with_the_others(tmp_path: Path) -> None:
    """They are among the provider's models, and every other provider is as before."""
    catalogue = own(OWN, tmp_path)
    assert {model.name for model in catalogue.models("hosted_vllm")} == {"our-qwen", "our-small"}
    assert len(catalogue.models()) == len(load().models()) + 3
    assert catalogue.provider("anthropic") == load().provider("anthropic")


def test_every_fault_is_told_at_its_place(tmp_path: Path) -> None:
    """Unknown providers, models, parameters and capabilities, impossible days: each with its line and a remedy."""
    found = problems(
        """\
models:
  opnai:
    x: {}
  openai:
    a: {like: gpt-5-mimi}
    b: {parameters: [temprature]}
    c: {supports: [tolls]}
    d: {deprecated_on: "2027-02-30"}
  anthropic:
    e: {parameters: [seed]}
""",
        tmp_path,
    )
    assert [(code, line) for code, line, _ in found] == [
        ("unknown_provider", 2),
        ("unknown_model", 5),
        ("unknown_parameter", 6),
        ("unknown_capability", 7),
        ("date", 8),
        ("unsupported_parameter", 10),
    ]
    for text, (_, _, told) in zip(("openai", "gpt-5-mini", "temperature", "tools"), found, strict=False):
        assert f"Did you mean '{text}'?" in told


def test_faults_of_form_are_told_as_in_other_documents(tmp_path: Path) -> None:
    """A misspelt key, a negative price, a currency in words, a missing price."""
    found = problems(
        """\
models:
  openai:
    a:
      max_input: 3
      prices: {currency: euro, input: -1, output: 2}
    b:
      prices: {currency: EUR, input: 1}
""",
        tmp_path,
    )
    assert [(code, line) for code, line, _ in found] == [
        ("unknown_key", 4),
        ("invalid_value", 5),
        ("invalid_value", 5),
        ("missing_key", 7),
    ]
    assert "Did you mean 'max_input_tokens'?" in found[0][2]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """No file, and a file that is no YAML."""
    with pytest.raises(InvalidSource, match="cannot be read"):
        load(tmp_path / "none.yaml")
    with pytest.raises(InvalidSource):
        own("models: [", tmp_path)


def test_editors_accept_what_the_reader_accepts(tmp_path: Path) -> None:
    """The JSON Schema passes the example, and refuses a negative price."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    assert check.is_valid(read(OWN, "models.yaml").value)
    wrong = {"models": {"openai": {"a": {"prices": {"currency": "USD", "input": -1, "output": 1}}}}}
    assert not check.is_valid(wrong)
