"""Importing one module of a package without the package around it.

Owns no state. A package's `__init__` offers all that it has, and importing that can take ten times as long as the one
module of it that we use: for llama_cpp and pydantic_core it would be a tenth of a cold start. May import nothing of
Pagemill.
"""

import importlib
import importlib.util
import sys
from types import ModuleType


def import_without_package(name: str) -> ModuleType:
    """The module `package.module`, without running the package's `__init__` if nobody has yet.

    For the moment of the import an empty package stands in for it; whoever imports the package later gets the real one.

    Raises:
        ImportError: there is no such package or module, or it can't be imported.
    """
    package = name.rpartition(".")[0]
    if package in sys.modules or name in sys.modules:
        return importlib.import_module(name)
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"no package {package!r} is installed", name=package)
    stand_in = ModuleType(package)
    stand_in.__path__ = list(spec.submodule_search_locations)
    sys.modules[package] = stand_in
    try:
        return importlib.import_module(name)
    finally:
        if sys.modules.get(package) is stand_in:
            del sys.modules[package]
