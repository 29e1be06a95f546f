"""`weft models`, and the pages that are made from the same catalogue."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from click.shell_completion import ShellComplete
from rich.cells import cell_len

from weft import plan, source
from weft.catalogue import Catalogue, Model, Prices, Provider, load
from weft.catalogue.fit import KINDS, Fit, Verdict
from weft.cli import app, models
from weft.cli.model_view import price, tokens
from weft.registry import Registry
from weft.runtime import Runtime
from weft.survey import survey

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "models"
Weft = Callable[..., tuple[int, str, str]]


def refused(*names: str) -> dict[str, dict[str, Verdict]]:
    return {name: dict.fromkeys(KINDS[name], "refused") for name in names}


def made() -> Catalogue:
    """A catalogue with a model of every kind that is shown differently."""
    every = frozenset(KINDS)
    fit = Fit({**refused("seed", "logit_bias"), "temperature": {"other": "refused"}, "user": {"address": "ignored"}})
    acme = {
        "acme-large": Model(
            "acme", "acme-large", 1_048_576, 65_536, frozenset({"tools", "vision"}), fit.taken(),
            Prices("USD", 2.5, 10, 0.25), fit=fit,
        ),
        "acme-old": Model("acme", "acme-old", 8_192, None, frozenset(), every, None, date(2020, 1, 31)),
        "acme-soon": Model(
            "acme", "acme-soon", 200_000, 999, frozenset({"reasoning"}), every, Prices("USD", 0.0375, 0), date(2099, 12, 1)
        ),
    }  # fmt: skip
    providers = {
        "acme": Provider(
            "acme", "Acme \x1b[31mCorporation", models=acme, parameters=every - {"n"}, fit=Fit(refused("n"))
        ),
        "mine": Provider("mine", "My Server", self_hosted=True, parameters=every),
    }
    return Catalogue(lambda: {name: lambda each=each: each for name, each in providers.items()})  # type: ignore[misc]


@pytest.fixture
def weft(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Weft:
    """Runs the command line in this process; with `width`, as on a terminal of so many columns."""

    def weft(*arguments: str, width: int | None = None) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            if width is not None:
                patch.setattr(models, "is_live", lambda stream: True)
                patch.setenv("COLUMNS", str(width))
            with pytest.raises(SystemExit) as ended:
                app.main(["models", *arguments])
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return weft


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = made()
    monkeypatch.setattr(models, "catalogue_of", lambda home: catalogue)


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip("\n").split("\n")]


# ---- tables


@pytest.mark.usefixtures("small")
def test_the_table_of_providers(weft: Weft) -> None:
    """Each has its name, how many models are known, the largest context and the lowest price of those still there."""
    code, out, _ = weft(width=80)

    assert code == 0
    assert lines(out) == [
        "provider                         models  context    from",
        "acme      Acme ␛[31mCorporation       3    1.05M  0.0375",
        "mine      My Server                 any              own",
        "",
        "2 providers, 3 models.",
        "context: tokens at most. from: the lowest price of a million tokens read, in USD",
        "where nothing else is said.",
        "any: no model is known by name, every name is tried.",
        "own: a server of your own.",
        "The models of one: weft models PROVIDER",
    ]


@pytest.mark.usefixtures("small")
def test_the_table_of_models(weft: Weft) -> None:
    """Each has its limits, prices, capabilities and end; one that is gone comes last."""
    assert lines(weft("acme", width=110)[1])[:4] == [
        "model       context  output      in    out",
        "acme-large    1.05M     66k    2.50  10.00  tools vision",
        "acme-soon      200k     999  0.0375   0.00  reasoning until 2099-12-01",
        "acme-old         8k                         retired 2020-01-31",
    ]


@pytest.mark.usefixtures("small")
def test_a_narrow_table_has_letters(weft: Weft) -> None:
    """Where words have no room, capabilities are letters that are explained below."""
    told = lines(weft("acme", width=60)[1])

    assert told[1].split() == ["acme-large", "1.05M", "66k", "2.50", "10.00", "T", "V"]
    assert told[2].split()[-2:] == ["R", "2099-12"]
    assert "T tools, J json_schema, V vision, R reasoning." in told


@pytest.mark.usefixtures("small")
def test_a_very_narrow_table_has_names(weft: Weft) -> None:
    """Where little has room, a model's whole name has it, and its context."""
    told = lines(weft("acme", width=36)[1])

    assert ["acme-large", "1.05M"] in [line.split() for line in told]


@pytest.mark.parametrize("width", [46, 80, 120])
@pytest.mark.parametrize(
    "arguments", [(), ("openai",), ("--find", "claude"), ("bedrock",), ("explain", "openai", "gpt-4o")]
)
def test_nothing_is_cut(weft: Weft, width: int, arguments: tuple[str, ...]) -> None:
    """No line is wider than the terminal, and every name is there in full, if over several lines."""
    out = weft(*arguments, width=width)[1]
    assert max(map(cell_len, out.split("\n"))) <= width
    if arguments and arguments[0] in {"openai", "bedrock"}:
        column = "".join(line.split(" ")[0] for line in lines(out))
        assert [each.name for each in load().models(arguments[0]) if each.name not in column] == []


# ---- which models


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("acme",), ["acme-large", "acme-old", "acme-soon"]),
        (("list", "acme"), ["acme-large", "acme-old", "acme-soon"]),
        (("--find", "ACME", "--find", "o"), ["acme-old", "acme-soon"]),
        (("acme", "--supports", "tools,vision"), ["acme-large"]),
        (("acme", "--supports", "tools", "--supports", "reasoning"), []),
        (("acme", "--takes", "seed, n"), ["acme-old", "acme-soon"]),
        (("mine",), []),
    ],
)
def test_models_are_chosen(weft: Weft, arguments: tuple[str, ...], found: list[str]) -> None:
    """By provider, by parts of the name in any case, by capabilities, by parameters, and by all of these."""
    assert [each["name"] for each in json.loads(weft(*arguments, "--json")[1])] == found


@pytest.mark.usefixtures("small")
def test_providers_are_chosen(weft: Weft) -> None:
    """With a condition, providers are those that have such models, with the number of these."""
    assert weft("--supports", "tools")[1] == "acme\tAcme ␛[31mCorporation\t1\n"
    assert "1 provider, 2 models that take seed." in weft("--takes", "seed", width=80)[1]


@pytest.mark.usefixtures("small")
def test_through_a_pipe_there_are_tabs(weft: Weft) -> None:
    """A line for each model, with exact numbers; what is not known is empty."""
    assert weft("acme")[1].splitlines() == [
        "acme\tacme-large\t1048576\t65536\t2.5\t10\ttools,vision\t",
        "acme\tacme-old\t8192\t\t\t\t\t2020-01-31",
        "acme\tacme-soon\t200000\t999\t0.0375\t0\treasoning\t2099-12-01",
    ]


# ---- why


@pytest.mark.usefixtures("small")
def test_a_model_is_explained(weft: Weft) -> None:
    """What it does not take comes first, then what it takes in part and with which values, then the rest."""
    told = lines(weft("explain", "acme", "acme-large", width=80)[1])

    assert told[:6] == [
        "acme-large  Acme ␛[31mCorporation",
        "",
        "context  1.05M tokens read, 66k written at most",
        "prices   2.50 read, 10.00 written, 0.25 read again (USD for 1M tokens)",
        "can do   tools, vision",
        "",
    ]
    assert [line.split(" ─")[0] for line in told if "─" in line] == ["Not taken", "Taken in part", "Taken"]
    assert "✗ logit_bias, seed" in told
    assert "⊘ temperature  taken only as 1." in told
    assert "⊘ user         taken only as a plain name." in told
    assert "help: Leave it out, or choose one of: weft models acme --takes logit_bias" in told


@pytest.mark.usefixtures("small")
def test_an_unknown_model_is_explained(weft: Weft) -> None:
    """Of a name that the catalogue does not have it is told what is usual there, and which names are near."""
    code, out, _ = weft("explain", "acme", "acme-largo", width=80)

    assert code == 0
    assert "Nothing is known of this model." in out
    assert "near     acme-large" in out
    assert "Not taken, usually" in out
    assert re.search(r"^✗ n$", out, re.MULTILINE)


def test_parameters_may_be_named(weft: Weft) -> None:
    """With names of parameters, only these are told of."""
    told = json.loads(weft("explain", "openai", "gpt-4o-mini", "seed", "n", "--json")[1])

    assert [(each["name"], each["state"]) for each in told["parameters"]] == [("n", "taken"), ("seed", "taken")]


def test_why_a_parameter_was_refused(weft: Weft, core_registry: Registry, tmp_path: Path) -> None:
    """What `explain` calls refused is what compiling a workflow refuses, and what it calls taken is not."""
    told = json.loads(weft("explain", "anthropic", "claude-haiku-4-5", "--json")[1])
    states = {each["name"]: each["state"] for each in told["parameters"]}
    assert (states["seed"], states["top_p"]) == ("refused", "taken")

    values = {"provider": "anthropic", "model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "Hello"}]}
    assert faults({**values, "seed": 1}, core_registry) == ["seed"]
    assert faults({**values, "top_p": 0.9}, core_registry) == []


def faults(values: dict[str, Any], registry: Registry) -> list[str]:
    """Return the fields at fault of a workflow with one step."""
    step = {"id": "answer", "uses": "generate_chat_completion", "connection": "anthropic", "with": values}
    document = source.read(yaml.safe_dump({"name": "asked", "steps": [step]}), "asked.yaml")
    found = survey(document).workflow
    assert found is not None
    try:
        plan.compile(found, document, registry)
    except Exception as error:  # noqa: BLE001 — its kind is for the tests of the compiler
        return [(problem.where.field or "").removeprefix("with.") for problem in error.problems]  # type: ignore[attr-defined]
    return []


def test_the_parameters_are_those_of_the_action(core_registry: Registry) -> None:
    """What is explained is each parameter of the action that stands in a request besides model and messages."""
    ours = {"messages", "model", "provider", "api_base", "api_version", "additional_parameters", "fallbacks", "metadata", "num_retries"}  # fmt: skip
    action = core_registry.action("generate_chat_completion").manifest

    assert set(models.PARAMETERS) == {each.name for each in action.all_parameters} - ours


# ---- for programs


def test_the_shapes_are_documented(weft: Weft) -> None:
    """Every field of `--json` is in the tables of docs/models/index.md, and the other way round."""
    tables = re.split(
        r"^A (?:provider|model|parameter of `explain`):\n", (PAGES / "index.md").read_text(), flags=re.MULTILINE
    )
    documented = [
        set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)))) for table in tables
    ]
    told = json.loads(weft("explain", "openai", "gpt-4o-mini", "--json")[1])

    assert documented[1:] == [set(told["provider"]), set(told["model"]), set(told["parameters"][0])]
    assert set(json.loads(weft("--json")[1])[0]) == set(told["provider"])
    assert set(json.loads(weft("openai", "--json")[1])[0]) == set(told["model"])
    assert told["model"]["prices"]["currency"] == "USD"
    assert len(told["parameters"]) == 18


@pytest.mark.parametrize(
    ("arguments", "code", "near"),
    [
        (("opnai",), "unknown_provider", "'openai'"),
        (("explain", "antropic", "x"), "unknown_provider", "'anthropic'"),
        (("openai", "--supports", "tool"), "unknown_capability", "'tools'"),
        (("--takes", "sed"), "unknown_parameter", "'seed'"),
        (("explain", "openai", "gpt-4o", "temprature"), "unknown_parameter", "'temperature'"),
    ],
)
def test_a_misspelt_name(weft: Weft, arguments: tuple[str, ...], code: str, near: str) -> None:
    """It ends with exit code 4, nothing on standard output, and the nearest name."""
    ended, out, err = weft(*arguments)

    assert (ended, out) == (4, "")
    assert f"error[{code}]" in err
    assert near in err


@pytest.mark.parametrize("arguments", [("explain",), ("explain", "openai"), ("openai", "gpt-4o"), ("--nonsense",)])
def test_a_wrong_command_line(weft: Weft, arguments: tuple[str, ...]) -> None:
    """What cannot be understood ends with exit code 2."""
    assert weft(*arguments)[0] == 2


@pytest.mark.parametrize(
    ("words", "incomplete", "some"),
    [
        ([], "open", {"openai", "openrouter"}),
        ([], "ex", {"explain"}),
        (["explain"], "anth", {"anthropic"}),
        (["explain", "openai"], "gpt-4o-m", {"gpt-4o-mini"}),
        (["explain", "openai", "gpt-4o"], "top", {"top_p", "top_logprobs"}),
        (["openai", "--supports"], "tools,vi", {"tools,vision"}),
        (["--takes"], "see", {"seed"}),
        ([], "--ta", {"--takes"}),
    ],
)
def test_a_shell_completes_names(words: list[str], incomplete: str, some: set[str]) -> None:
    """Providers, models, parameters and capabilities are completed, also in lists with commas."""
    found = ShellComplete(app.weft, {}, "weft", "_WEFT_COMPLETE").get_completions(["models", *words], incomplete)

    assert some <= {each.value for each in found}
    assert all(each.value.startswith(incomplete) for each in found)


def test_it_starts_quickly() -> None:
    """Neither LiteLLM nor the runtime is imported for it."""
    program = """
import sys
from weft.cli.app import main
try:
    main(["models", "openai"])
except SystemExit as end:
    assert not end.code
print({"litellm", "aiohttp", "weft.runtime"} & sys.modules.keys(), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stderr == "set()\n"
    assert "gpt-4o-mini" in done.stdout


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (None, ""),
        (999, "999"),
        (8192, "8k"),
        (200_000, "200k"),
        (999_999, "1M"),
        (1_048_576, "1.05M"),
        (10_000_000, "10M"),
    ],
)
def test_tokens(number: int | None, told: str) -> None:
    """Numbers of tokens are told in thousands and millions."""
    assert tokens(number) == told


@pytest.mark.parametrize(
    ("amount", "told"),
    [(None, ""), (0, "0.00"), (15, "15.00"), (0.15, "0.15"), (0.0375, "0.0375"), (0.00001, "0.00001")],
)
def test_prices(amount: float | None, told: str) -> None:
    """Prices have two decimals or as many as they need; one that is not known is not zero."""
    assert price(amount) == told


# ---- the pages


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """The program that makes the pages."""
    spec = importlib.util.spec_from_file_location("make_model_pages", PAGES / "make_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_those_of_the_catalogue(maker: ModuleType) -> None:
    """docs/models holds what the program makes of the catalogue that is shipped, every provider once, and is readable."""
    pages = maker.pages(load())

    assert {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")} == pages
    assert sum(map(len, pages.values())) < 300_000
    titles = [
        re.findall(r"^  type: \w+\n  provider: (\S+)$", text, re.MULTILINE)
        for name, text in pages.items()
        if name != "others.md"
    ]
    shown = [name for found in titles for name in found]
    others = re.findall(r"^\| `([^`]+)` \|", pages["others.md"], re.MULTILINE)
    assert sorted([*shown, *others, *maker.DIALOGUE]) == list(load().names())
    assert all(f"`{name}`" in pages["others.md"] for name in maker.DIALOGUE)


async def test_every_example_works(
    maker: ModuleType, core_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each connection on the pages can be opened when its variables are set, and each step compiles with it."""
    monkeypatch.chdir(tmp_path)
    for text in maker.pages(load()).values():
        blocks = [
            yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        ]
        connections = {name: entry for block in blocks if "with" not in block for name, entry in block.items()}
        steps = [block for block in blocks if "with" in block]
        assert [step["connection"] for step in steps] == list(connections)
        environ = dict.fromkeys(re.findall(r"env: (\w+)", text), "a-key-for-this-test")
        file = written("connections.yaml", connections)
        async with Runtime(tmp_path, core_registry, connections_file=file, environ=environ) as runtime:
            for step in steps:
                opened = await runtime.connections.get(step["connection"], "model_provider", lambda doing: None)
                assert opened.get("provider") == step["with"]["provider"]
                told = runtime.compile(written("shown.yaml", {"name": "shown", "steps": [step]})).warnings
                assert [problem.message for problem in told if step["with"]["model"] != "my-model"] == []


def test_providers_in_the_table_can_be_used(maker: ModuleType, core_registry: Registry) -> None:
    """A step for each provider of the last page's table compiles, and one for those below it does not."""
    table = re.findall(r"^\| `([^`]+)` \|", maker.pages(load())["others.md"], re.MULTILINE)
    values = {"model": "some-model", "messages": [{"role": "user", "content": "Hello"}]}

    assert [name for name in table if faults({**values, "provider": name}, core_registry)] == []
    assert all(faults({**values, "provider": name}, core_registry) == ["provider"] for name in maker.DIALOGUE)


def written(name: str, value: Any) -> Path:
    file = Path(name)
    file.write_text(yaml.safe_dump(value), encoding="utf-8")
    return file
