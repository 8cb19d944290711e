"""The names by which the models are listed, in all dialects that list them. Owns no state."""

from pagemill.settings import Settings
from pagemill.store.references import Reference


def shown_names(reference: Reference, settings: Settings) -> list[str]:
    """The model's own name, and those that the settings add."""
    names = [reference.name, *settings.served_model_name]
    return [name for name in dict.fromkeys(names) if name in reference.aliases]
