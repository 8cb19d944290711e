"""Importing modules of a package without the package around them.

Owns no state. A package's `__init__` offers all that it has, and importing that can take ten times as long as the
modules of it that we use: for llama_cpp, pydantic_core and uvicorn it would be a fifth of a cold start. May import
nothing of Pagemill.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


def import_without_package(name: str) -> ModuleType:
    """The module `package.module`, without running the package's `__init__` if nobody has yet.

    Raises:
        ImportError: there is no such package or module, or it can't be imported.
    """
    package = name.rpartition(".")[0]
    if name in sys.modules:
        return importlib.import_module(name)
    with bare_package(package):
        return importlib.import_module(name)


@contextmanager
def bare_package(name: str) -> Iterator[Any]:
    """Within it, importing the package's modules does not run the package's `__init__`, unless somebody has already.

    An empty package stands in for it, which this gives (or the real one if that is there); whoever imports the package
    later gets the real one, with the same modules.

    Raises:
        ModuleNotFoundError: there is no such package.
    """
    if name in sys.modules:
        yield sys.modules[name]
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"no package {name!r} is installed", name=name)
    stand_in = ModuleType(name)
    stand_in.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = stand_in
    try:
        yield stand_in
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
