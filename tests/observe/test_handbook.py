"""docs/operations.md: what it has people type exists, and what it has them keep comes back."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from PIL import Image
from sqlalchemy import text

from gateway.cli.main import app
from gateway.settings import Settings
from gateway.settings_table import OF_SERVICES
from gateway.store.database import Database
from tests.observe.conftest import free_port, process, until_ready

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
# where a command of ours begins: a line, a pod's shell, quoted words
_OURS = re.compile(r"(?:^|-- |^gateway |`)darkroom (?P<rest>[a-z][^`\n#|]*)", re.MULTILINE)


def block(name: str) -> str:
    """The commands below `<!-- name -->`."""
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, f"the handbook has no block {name!r}"
    return found[1]


def commands() -> Iterator[list[str]]:
    for found in _OURS.finditer(PAGE):
        yield found["rest"].split()


def test_there_are_commands_of_ours_on_the_page() -> None:
    named = {words[0] for words in commands()}
    assert {"keys", "doctor", "jobs", "models", "run", "up"} <= named


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_a_command_of_ours_exists_with_its_options(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "get_command") and rest and not rest[0].startswith("-"):
        command = command.get_command(None, rest.pop(0))
        assert command is not None, f"there is no `darkroom {' '.join(words)}`"
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def test_the_settings_on_the_page_exist() -> None:
    known = {*Settings.model_fields, *(name for own in OF_SERVICES.values() for name in own.model_fields)}
    own = {"darkroom_url", "darkroom_key"}  # of the command
    named = {name.lower() for name in re.findall(r"\bDARKROOM_[A-Z0-9_]+\b", PAGE)} - own
    assert {name.removeprefix("darkroom_") for name in named} - {""} <= known
    lower = re.findall(r"settings: \{([a-z0-9_]+)[:,]|settings\.([a-z0-9_]+)=", PAGE)
    assert {a or b for a, b in lower} <= known


def test_links_to_other_pages_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / link).exists(), link


# ── tried for real ────────────────────────────────────────────────────────────────────────────────────────────


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(out, "PNG")
    return out.getvalue()


@pytest.mark.slow
def test_the_embedded_profile_comes_back_from_its_backup(tmp_path: Path) -> None:
    """Backed up while it runs and writes, emptied, restored: key, job, picture and link are there again."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    port, data = free_port(), tmp_path / ".darkroom"
    url, log = f"http://127.0.0.1:{port}", tmp_path / "gateway.log"
    admin = {"authorization": "Bearer dk_handbook-admin-key-0123456789abcdef0"}
    settings = {
        "DARKROOM_PORT": str(port),
        "DARKROOM_DATA": str(data),
        "DARKROOM_GRPC_PORT": "0",
        "DARKROOM_INFERENCE_PORT": "0",
        "DARKROOM_DRAIN_LEAD": "0",
        "DARKROOM_ADMIN_KEY": admin["authorization"].removeprefix("Bearer "),
        "DARKROOM_SERVICES": json.dumps({"cleanup": [f"http://127.0.0.1:{free_port()}"]}),
    }

    def shell(commands: str) -> None:
        done = subprocess.run(
            ["bash", "-eu", "-c", commands], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr

    def keep(client: httpx.Client) -> str:
        kept = client.post("/v1/assets", content=picture(), headers={"content-type": "image/png"})
        assert kept.status_code == 201, kept.text
        return str(kept.json()["id"])

    def ids(client: httpx.Client) -> set[str]:
        page = client.get("/v1/assets", params={"limit": "100"}).json()
        return {asset["id"] for asset in page["assets"]}

    with ExitStack() as running:
        running.enter_context(process([sys.executable, "-m", "gateway"], log, **settings))
        until_ready(f"{url}/healthz", log)
        with httpx.Client(base_url=url, headers=admin, timeout=30) as client:
            before = keep(client)
            params = {"image": f"asset:{before}", "mask": f"asset:{before}"}
            job = client.post("/v1/jobs", json={"operation": "cleanup", "params": params}).json()["id"]
            link = client.post(f"/v1/assets/{before}/link").json()["url"]
            for _ in range(20):
                keep(client)
            shell(block("embedded backup"))
            kept = ids(client)
            after = keep(client)
    shell(block("embedded restore"))
    with ExitStack() as running:
        running.enter_context(process([sys.executable, "-m", "gateway"], log, **settings))
        until_ready(f"{url}/healthz", log)
        with httpx.Client(base_url=url, headers=admin, timeout=30) as client:
            assert client.get(f"/v1/assets/{before}").content == picture()
            assert client.get(f"/v1/assets/{after}").status_code == 404
            assert client.get(f"/v1/jobs/{job}").json()["state"] == "queued"
            assert ids(client) == kept
        opened = httpx.get(link if link.startswith("http") else url + link, timeout=10)
        assert opened.content == picture()


@pytest.mark.postgres
def test_a_second_role_of_the_database_acts_as_the_first(postgres: Any) -> None:
    """What one writes or makes belongs to both, so that either password may go."""
    name = f"studio_{uuid.uuid4().hex[:8]}"
    roles = block("postgres role").replace("darkroom", name)

    async def rotate() -> None:
        url = await postgres.create()
        plain = f"{url.partition('://')[0]}://{{}}:NEW@{url.rpartition('@')[2]}"
        server = Database(url)
        async with server.write() as connection:
            await connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'NEW'"))
            await connection.execute(text(f"ALTER SCHEMA public OWNER TO {name}"))
            for statement in filter(str.strip, roles.split(";")):
                await connection.execute(text(statement))
        await server.close()
        for role in (name, f"{name}_b"):
            database = Database(plain.format(role))
            await database.open()  # the second finds what the first has migrated
            async with database.write() as connection:
                assert (await connection.execute(text("SELECT current_user"))).scalar_one() == name
                await connection.execute(text(f"CREATE TABLE of_{role} (n int)"))
            async with database.read() as connection:
                owners = text("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
                assert (await connection.execute(owners)).scalars().all() == [name]
            await database.close()

    asyncio.run(rotate())


@pytest.mark.slow
@pytest.mark.postgres
def test_a_database_comes_back_from_its_dump(postgres: Any, tmp_path: Path) -> None:
    """The page's own lines of pg_dump and pg_restore."""
    lines = {word: _line(word) for word in ("pg_dump", "pg_restore")}
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]

    async def count(url: str, sentence: str = "SELECT count(*) FROM keys") -> int:
        database = Database(url)
        async with database.write() as connection:
            result = await connection.execute(text(sentence))
            found = int(result.scalar_one()) if result.returns_rows else 0
        await database.close()
        return found

    async def prepare() -> str:
        url: str = await postgres.create()
        database = Database(url)
        await database.open()
        await database.close()
        return url

    url = asyncio.run(prepare())
    env = {
        **os.environ,
        "DATABASE_URL": url.replace("+asyncpg", ""),
        "PATH": f"{binaries}:{os.environ['PATH']}",
    }

    def shell(command: str) -> None:
        done = subprocess.run(
            ["bash", "-eu", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    shell(lines["pg_dump"])
    asyncio.run(count(url, "DROP TABLE assets CASCADE"))
    shell(lines["pg_restore"])
    assert asyncio.run(count(url)) == 0
    assert asyncio.run(count(url, "SELECT count(*) FROM assets")) == 0


def _line(word: str) -> str:
    found = re.search(rf"^{word} .*$", PAGE, re.MULTILINE)
    assert found is not None
    return found[0]
