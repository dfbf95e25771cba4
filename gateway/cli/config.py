"""Settings as a person meets them: read, or refused with one sentence a mistake."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from gateway.cli.console import USAGE, Stop
from gateway.settings import Settings


def load_settings(**given: Any) -> Settings:
    """The settings of this environment; a broken one stops the command."""
    try:
        return Settings(**given)
    except ValidationError as error:
        raise Stop("\n".join(_sentence(item) for item in error.errors(include_url=False)), USAGE) from error
    except SettingsError as error:
        name = str(error).split('"')[1] if '"' in str(error) else ""
        raise Stop(
            f"DARKROOM_{name.upper()} cannot be read: write it as JSON{_example(name)}.", USAGE
        ) from error


def _sentence(item: Any) -> str:
    path, message = item["loc"], str(item["msg"]).removeprefix("Value error, ")
    if not path:
        return f"The settings do not fit together: {message}."
    name = str(path[0])
    where = f"DARKROOM_{name.upper()}" + "".join(f"[{part}]" for part in path[1:])
    about = Settings.model_fields[name].description if name in Settings.model_fields else ""
    given = "" if "secret" in name or "key" in name or "url" in name else f" is {item['input']!r}, but"
    return f"{where}{given} {message[:1].lower() + message[1:]}. {about}".strip()


def _example(name: str) -> str:
    examples = {
        "services": """, like '{"cleanup": ["http://127.0.0.1:3001"]}'""",
        "storage_options": """, like '{"region": "eu-west-1"}'""",
    }
    return examples.get(name, "")
