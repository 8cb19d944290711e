"""Finding, building and loading the kernels, and what happens where that can't be done. A process loads them once, so
most tests start one.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pagemill.backends.paged.native import build
from pagemill.machine import cpu_features

KERNELS = "import torch; from pagemill.backends.paged.native.library import load_kernels; print(load_kernels()._name)"
CHOICE = """
import torch, logging
logging.basicConfig(level="WARNING")
from pagemill.backends.paged.ops import make_ops
from pagemill.backends.paged.attention import make_attention
for dtype in (torch.bfloat16, torch.float32):
    print(type(make_ops("auto", torch.device("cpu"), dtype)).__name__)
    print(type(make_attention("auto", torch.device("cpu"), dtype)).__name__)
make_ops("cpu", torch.device("cpu"), torch.float32)
"""


def run(code: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_processes_that_build_at_once_all_load_one_library(tmp_path: Path) -> None:
    environment = {"PAGEMILL_CACHE_DIR": str(tmp_path)}
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _: run(KERNELS, environment), range(2)))
    assert [done.returncode for done in runs] == [0, 0], runs[0].stderr
    (library,) = (tmp_path / "kernels").iterdir()
    assert {done.stdout.strip() for done in runs} == {str(library)}
    written = library.stat().st_mtime_ns
    assert run(KERNELS, environment).returncode == 0
    assert library.stat().st_mtime_ns == written


def test_without_a_compiler_torch_does_the_work_and_one_warning_says_so(tmp_path: Path) -> None:
    done = run(CHOICE, {"PAGEMILL_CACHE_DIR": str(tmp_path), "PATH": str(tmp_path), "CC": ""})
    assert done.stdout.split() == ["TorchOps", "TorchAttention"] * 2, done.stderr
    assert done.stderr.count("WARNING") == 1
    assert "there is no C compiler" in done.stderr
    assert "SettingsError: attention_backend=cpu: there is no C compiler" in done.stderr


def test_a_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    compiler = tmp_path / "broken-cc"
    compiler.write_text("#!/bin/sh\necho 'no such flag' >&2\nexit 1\n")
    compiler.chmod(0o755)
    with pytest.raises(build.BuildError, match=r"broken-cc failed on attention\.c: no such flag"):
        build.build(tmp_path, build.native_variant(str(compiler)), str(compiler))


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    compiler = build.find_compiler()
    with pytest.raises(build.BuildError, match="file"):
        build.build(tmp_path / "file" / "kernels", build.native_variant(compiler), compiler)


def test_a_prebuilt_library_needs_no_compiler(tmp_path: Path) -> None:
    variants = [variant for variant in build.portable_variants() if variant.cpu_features <= cpu_features()]
    if not variants:
        pytest.skip("this kind of CPU has no portable variant")
    built = build.build(tmp_path / "kernels", variants[-1], build.find_compiler())
    done = run(KERNELS, {"PAGEMILL_CACHE_DIR": str(tmp_path), "PATH": "", "CC": ""})
    assert done.stdout.strip() == str(built), done.stderr


def test_a_prebuilt_library_for_another_cpu_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pagemill.backends.paged.native import library

    monkeypatch.setattr(library, "cpu_features", lambda: frozenset({"fpu"}))
    assert list(library._candidates()) == []


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from pagemill.backends.paged.native import library

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    for name in ("PAGEMILL_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(build.BuildError, match="set PAGEMILL_CACHE_DIR"):
        library.cache_folder()


def test_a_change_to_a_source_or_a_flag_changes_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    build.library_name.cache_clear()
    before = build.library_name("native")
    build.library_name.cache_clear()
    monkeypatch.setattr(build, "FLAGS", ("-O2",))
    assert build.library_name("native") != before
    build.library_name.cache_clear()


def test_the_command_builds_what_it_is_told_to(tmp_path: Path) -> None:
    name = build.portable_variants()[-1].name
    command = [sys.executable, "-m", build.__name__, "--out", str(tmp_path), "--variant", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == str(tmp_path / build.library_name(name))
    assert Path(done.stdout.strip()).is_file()
