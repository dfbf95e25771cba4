"""docs/services.md says what the code does."""

from pathlib import Path

import pytest

from services.settings import (
    CleanupSettings,
    DiffusionSettings,
    FromEnvironment,
    HubSettings,
    NetSettings,
    ServiceSettings,
)

PAGE = (Path(__file__).parent.parent.parent / "docs" / "services.md").read_text()


@pytest.mark.parametrize(
    "settings", [ServiceSettings, DiffusionSettings, CleanupSettings, NetSettings, HubSettings]
)
def test_every_setting_of_a_service_is_in_the_page_with_its_default_and_sentence(
    settings: type[FromEnvironment],
) -> None:
    for name, field in settings.model_fields.items():
        default = field.get_default()
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        line = f"| `DARKROOM_{name.upper()}` | {shown} | {field.description} |".replace("|  |", "| |")
        assert line in PAGE, f"docs/services.md lacks the line: {line}"
