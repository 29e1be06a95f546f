"""Where connections come from: what each source tells without opening, fields that a provider brings, their order."""

from __future__ import annotations

import base64

import pytest

from weft import manifest, source
from weft.catalogue import Catalogue, Provider
from weft.connections import BuiltIn, Connections, Directory, Environment, File, Keys, Store, Stored
from weft.connections.fields import LARGEST_VALUE
from weft.errors import ConnectionUnusable, InvalidConnections, InvalidManifest, NotFound
from weft.manifest import Parameter
from weft.plan import ConnectionFacts
from weft.redaction import Redactor, Secret
from weft.runtime import Runtime

KIND = """
id: models
title: Models
purpose: Models for tests.
icon: flask
fields:
  - {name: provider, title: Provider, description: Whose., type: string, required: true, widget: select,
     options: {source: providers}}
  - {name: key, title: Key, description: The key., type: string, secret: true, widget: password}
  - {name: hosts, title: Hosts, description: Names., type: array, items: {type: string}, widget: list}
  - {name: limit, title: Limit, description: How long., type: number, default: 300, widget: number}
environment:
  key: ["{NAME}_KEY"]
  hosts: ["{NAME}_HOSTS"]
  limit: ["{NAME}_LIMIT"]
further_fields: {source: providers, by: provider}
"""


def kind(text=KIND):
    return manifest.load_connection_type(source.read(text, "models.yaml"))


def field(name, **more):
    return Parameter(name=name, title=name, description=name, type="string", widget="text", **more)


CLOUD = (
    field("cloud_region", required=True),
    field("cloud_secret", secret=True),
    field("key", required=True),  # the type's own comes first
)


ENTRIES = {"plain": Provider("plain", "Plain"), "my_cloud": Provider("my_cloud", "Cloud", CLOUD)}


TYPES = {"models": kind()}
CATALOGUE = Catalogue(lambda: {name: lambda made=made: made for name, made in ENTRIES.items()})


def environment(**variables):
    return Environment(TYPES, variables, CATALOGUE)


def file(tmp_path, text, mode=0o600, **environ):
    path = tmp_path / "connections.yaml"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return File(path, TYPES, environ, CATALOGUE)


def mounted(tmp_path, **entries):
    """A directory as Kubernetes mounts it: values behind links, names of its own that begin with dots."""
    for name, fields in entries.items():
        data = tmp_path / "mount" / name / "..2026_01_01"
        data.mkdir(parents=True)
        (data.parent / "..data").symlink_to(data.name)
        for key, text in fields.items():
            (data / key).write_text(text, encoding="utf-8")
            (data.parent / key).symlink_to(f"..data/{key}")
    return Directory(tmp_path / "mount", TYPES, CATALOGUE)


def stored(tmp_path):
    key = base64.b64encode(bytes(32)).decode()
    store = Store(tmp_path / "home" / "connections.db", Keys({"WEFT_KEY": key}, tmp_path / "home"))
    return store, Stored(store, TYPES, CATALOGUE)


def all_of(*sources):
    return Connections(sources, Redactor())


@pytest.fixture(params=["environment", "file", "directory", "store"])
def cloud(request, tmp_path):
    """The connection `my-cloud`, from each source."""
    match request.param:
        case "environment":
            return environment(
                MY_CLOUD_KEY="key-0001",
                MY_CLOUD_CLOUD_REGION="r1",
                MY_CLOUD_CLOUD_SECRET="sec-0001",
                MY_CLOUD_HOSTS="a, b",
            ), "my_cloud"
        case "file":
            text = (
                "my_cloud: {type: models, provider: my_cloud, key: {env: K}, cloud_region: {env: R}, "
                "cloud_secret: sec-0001, hosts: [a, b]}\n"
            )
            return file(tmp_path, text, K="key-0001", R="r1"), "my_cloud"
        case "directory":
            fields = {
                "type": "models\n",
                "provider": "my_cloud",
                "key": "key-0001\n",
                "cloud_region": "r1",
                "cloud_secret": "sec-0001",
                "hosts": '["a", "b"]',
            }
            return mounted(tmp_path, my_cloud=fields), "my_cloud"
        case _:
            store, source_ = stored(tmp_path)
            secrets = {"key": Secret("key-0001"), "cloud_secret": Secret("sec-0001")}
            clear = {"provider": "my_cloud", "cloud_region": "r1", "hosts": ["a", "b"]}
            store.write("my_cloud", "models", clear, secrets)
            return source_, "my_cloud"


async def test_every_source_tells_what_is_not_secret_and_opens_the_same(cloud):
    """Settings are known without opening, defaults among them; opened, secrets are wrapped, a provider's own too."""
    place, name = cloud
    facts = place.facts(name, "models")
    opened = await place.open(name, "models", lambda text: None)

    settings = {"provider": "my_cloud", "cloud_region": "r1", "hosts": ["a", "b"], "limit": 300}
    assert facts.settings == settings
    assert facts.provider == "my_cloud"
    assert opened.values == settings | {"key": Secret("key-0001"), "cloud_secret": Secret("sec-0001")}
    assert "0001" not in repr(facts) + repr(opened)


def test_what_is_not_known_without_opening_is_left_out(tmp_path):
    """A reference that leads nowhere is no setting, and no default is told in its stead."""
    place = file(tmp_path, "a: {type: models, provider: plain, limit: {env: NOT_SET}, hosts: {file: nowhere}}\n")

    assert place.facts("a", "models").settings == {"provider": "plain"}


async def test_a_field_of_another_provider_is_unknown(tmp_path):
    """The fields of a provider belong to its connections alone, and what it requires is required."""
    place = file(
        tmp_path, "a: {type: models, provider: plain, cloud_region: r1}\nb: {type: models, provider: my_cloud}\n"
    )
    for name, part in (("a", "cloud_region"), ("b", "cloud_region")):
        with pytest.raises(ConnectionUnusable) as caught:
            await place.open(name, "models", lambda text: None)
        assert part in caught.value.problem.message


def test_a_file_that_holds_a_providers_secret_must_be_private(tmp_path):
    """A secret that the provider brings is one as those of the type are."""
    with pytest.raises(InvalidConnections) as caught:
        file(tmp_path, "a: {type: models, provider: my_cloud, cloud_secret: s}\n", mode=0o644)

    assert caught.value.problem.code == "open_secrets"


def test_a_type_names_a_field_that_decides_and_secrets_are_texts():
    """The field that further ones depend on is one of the type's; a secret of another type could not be masked."""
    for old, new, code in (
        ("by: provider", "by: provder", "unknown_parameter"),
        ("type: string, secret: true, widget: password", "type: object, secret: true, widget: json", "secret_type"),
    ):
        with pytest.raises(InvalidManifest) as caught:
            kind(KIND.replace(old, new))
        assert [problem.code for problem in caught.value.problems] == [code]


def test_variables_are_known_for_providers(tmp_path):
    """Without being asked for a name the environment tells those of providers, not what other programs use."""
    place = environment(MY_CLOUD_KEY="k", PLAIN_KEY="k", OTHER_KEY="k")

    assert sorted(facts.name for facts in place.known()) == ["my_cloud", "plain"]


# -- the mounted directory


def test_a_mounted_directory_holds_only_what_states_its_type(tmp_path):
    """Files beside, and directories without `type`, are none of ours."""
    place = mounted(tmp_path, one={"type": "models", "provider": "plain"}, serviceaccount={"token": "t"})
    (tmp_path / "mount" / "loose").write_text("x")

    assert [(facts.name, facts.source) for facts in place.known()] == [("one", "directory mount")]
    for name in ("serviceaccount", "loose", "..data", "../mount/one", "nobody"):
        assert place.facts(name, "models") is None


async def test_a_mounted_secret_that_changes_is_read_anew(tmp_path):
    """Kubernetes exchanges the link; the next step sees the new value."""
    place = mounted(tmp_path, one={"type": "models", "provider": "plain", "key": "old-key"})
    new = tmp_path / "mount" / "one" / "..2026_02_02"
    new.mkdir()
    for key, text in (("type", "models"), ("provider", "plain"), ("key", "new-key")):
        (new / key).write_text(text)
    (new.parent / "..new").symlink_to(new.name)
    (new.parent / "..new").replace(new.parent / "..data")

    assert (await place.open("one", "models", lambda text: None)).secret("key") == Secret("new-key")


async def test_a_mounted_value_that_is_no_text_is_named(tmp_path):
    """The file is named, its content is not."""
    place = mounted(tmp_path, one={"type": "models", "provider": "plain", "key": "canary" * LARGEST_VALUE})
    with pytest.raises(ConnectionUnusable) as caught:
        await place.open("one", "models", lambda text: None)

    assert caught.value.problem.where.file.endswith("one/key")
    assert "canary" not in str(caught.value)


def test_a_mounted_type_that_is_unknown_is_told(tmp_path):
    """With the nearest name, and the file."""
    with pytest.raises(InvalidConnections) as caught:
        mounted(tmp_path, one={"type": "modles"}).facts("one", "models")

    assert "'models'" in caught.value.problem.remedy
    assert caught.value.problem.where.file.endswith("one/type")


def test_a_directory_that_is_not_there_is_told(tmp_path):
    """A mount that failed is no empty one."""
    with pytest.raises(InvalidConnections) as caught:
        Directory(tmp_path / "nowhere", TYPES)

    assert caught.value.problem.code == "no_directory"


# -- all of them


async def test_the_first_source_that_knows_a_name_answers(tmp_path):
    """Environment, file, directory, store, built in: each hides those behind it, and the list says so."""
    store, kept = stored(tmp_path)
    store.write("plain", "models", {"provider": "plain"}, {"key": Secret("from-the-store")})
    facts = ConnectionFacts("plain", "models", "built in", "plain")
    sources = [
        environment(PLAIN_KEY="from-a-variable"),
        file(tmp_path, "plain: {type: models, provider: plain, key: from-the-file}\n"),
        mounted(tmp_path, plain={"type": "models", "provider": "plain", "key": "from-a-mount"}),
        kept,
        BuiltIn({"plain": (facts, lambda: None)}),
    ]
    names = ["environment", "file connections.yaml", "directory mount", "store", "built in"]
    keys = ["from-a-variable", "from-the-file", "from-a-mount", "from-the-store"]
    for start, name in enumerate(names):
        several = all_of(*sources[start:])
        assert several.facts("plain", "models").source == name
        if start < len(keys):
            assert (await several.get("plain", "models")).secret("key") == Secret(keys[start])

    listed = all_of(*sources).listed()
    assert [(each.facts.source, each.shadowed_by) for each in listed] == [
        (name, "environment" if number else None) for number, name in enumerate(names)
    ]


def test_variables_of_a_name_that_workflows_use_are_listed():
    """The environment cannot tell its names by itself, but it can be asked."""
    several = all_of(Environment(TYPES, {"OWN_KEY": "k"}, CATALOGUE))

    assert several.listed() == []
    assert [each.facts.name for each in several.listed([("own", "models"), ("other", "models")])] == ["own"]


def test_a_connection_is_found_by_its_name_alone(tmp_path):
    """A source that states the type decides; variables are tried under the types that may be."""
    place = file(tmp_path, "own: {type: models, provider: plain}\n")
    several = all_of(environment(OWN_KEY="k"), place)

    assert [facts.source for facts in several.named("own", ["models"])] == ["environment", "file connections.yaml"]
    assert [facts.source for facts in all_of(environment(OWN_KEY="k")).named("own", ["models"])] == ["environment"]
    with pytest.raises(NotFound):
        several.named("nobody", ["models"])


async def test_a_variable_that_the_file_refers_to_makes_no_connection_of_its_own(core_registry, tmp_path):
    """The file's connection keeps its further fields, though its variable fits the name; others still make theirs."""
    path = tmp_path / "connections.yaml"
    path.write_text("slack-app: {type: slack, token: {env: SLACK_APP_TOKEN}, channel: C0123456789}\n")
    environ = {"SLACK_APP_TOKEN": "token-of-app", "SLACK_APP_CHANNEL": "C9", "OTHER_APP_TOKEN": "token-of-other"}
    async with Runtime(tmp_path / "home", core_registry, connections_file=path, environ=environ) as runtime:
        app = await runtime.connections.get("slack-app", "slack")
        other = await runtime.connections.get("other-app", "slack")

    assert (app.secret("token").reveal(), app.get("channel")) == ("token-of-app", "C0123456789")
    assert other.secret("token").reveal() == "token-of-other"


async def test_a_connection_of_a_type_that_no_pack_brings_is_told(tmp_path):
    """The store outlives a pack; what it keeps says what is missing."""
    store, kept = stored(tmp_path)
    store.write("own", "gone", {"a": 1}, {})

    assert kept.facts("own", "gone").settings == {"a": 1}
    with pytest.raises(ConnectionUnusable) as caught:
        await kept.open("own", "gone", lambda text: None)
    assert caught.value.problem.code == "unknown_connection_type"


async def test_what_is_told_of_built_in_connections_is_so(core_registry, tmp_path):
    """The settings that are known before they are started are those that they have then."""
    async with Runtime(tmp_path, core_registry, environ={}) as runtime:
        opened = await runtime.connections.get("outbox", "smtp")
        settings = runtime.connections.facts("outbox", "smtp").settings
        local = runtime.connections.facts("local-model", "model_provider").settings

    assert settings
    assert {name: opened.values[name] for name in settings} == settings
    assert local["provider"] == "openai"


async def test_a_runtime_looks_into_the_mounted_directory_and_the_store(tmp_path, monkeypatch):
    """What the environment names is used without being asked for, and the key of the store is masked."""
    key = base64.b64encode(b"k" * 32).decode()
    folder = tmp_path / "mount" / "mounted-mail"
    folder.mkdir(parents=True)
    for name, text in (("type", "smtp"), ("host", "mail.example.com"), ("password", "from-a-mount")):
        (folder / name).write_text(text)
    monkeypatch.setenv("WEFT_SECRETS_DIR", str(tmp_path / "mount"))
    monkeypatch.setenv("WEFT_KEY", key)
    async with Runtime.open(home=tmp_path / "home") as runtime:
        runtime.store.write("kept-mail", "smtp", {"host": "h"}, {"password": Secret("from-the-store")})
        opened = [await runtime.connections.get(name, "smtp") for name in ("mounted-mail", "kept-mail")]

    assert [each.secret("password").reveal() for each in opened] == ["from-a-mount", "from-the-store"]
    for hidden in (key, "from-a-mount", "from-the-store"):
        assert hidden not in runtime.redactor.text(f"a {hidden} b")
