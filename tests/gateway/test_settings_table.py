"""docs/settings.md says what gateway/settings.py says."""

from gateway.settings import Settings
from gateway.settings_table import PAGE, page


def test_the_page_of_settings_is_current() -> None:
    assert PAGE.read_text() == page(), "run `python -m gateway.settings_table`"


def test_every_setting_is_on_the_page_with_a_description() -> None:
    text = page()
    for name, field in Settings.model_fields.items():
        assert text.count(f"| `DARKROOM_{name.upper()}` |") == 1
        assert field.description
