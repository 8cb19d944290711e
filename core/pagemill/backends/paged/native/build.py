"""Builds the C kernels with the system's compiler; also a command, for images that have none when they run.

    python -m pagemill.backends.paged.native.build [--out DIR] [--variant NAME ...]

A library's name holds a hash of the sources and what it was built for, so a stale or foreign one is never found. Owns
no state. Imports no torch.
"""

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pagemill.machine import cpu_features

SOURCES = ("attention.c", "linear.c", "ops.c", "team.c")
HEADERS = ("attention_decode.h", "attention_typed.h", "kernels.h", "matmul.h", "ops_typed.h", "team.h")
# Neither errno nor traps matter here; sums keep their order where they are not said to be free, so no -ffast-math.
FLAGS = (
    "-std=c11",
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp-simd",
    "-pthread",
    "-Wno-psabi",
    "-fPIC",
    "-shared",
)
PREBUILT = Path(__file__).parent / "prebuilt"
TIMEOUT_S = 300.0


class BuildError(Exception):
    """The kernels can't be built here; the message says why."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A kind of CPU to build for, and what of `/proc/cpuinfo` it must have to run the result."""

    name: str
    flags: tuple[str, ...]
    cpu_features: frozenset[str]


_X86_64_V3 = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})
_X86_64_V4 = _X86_64_V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_WIDE = "-mprefer-vector-width=512"
# Of each machine, the best first.
PORTABLE = {
    "x86_64": (
        Variant("avx512-bf16", ("-march=x86-64-v4", "-mavx512bf16", _WIDE), _X86_64_V4 | {"avx512_bf16"}),
        Variant("avx512", ("-march=x86-64-v4", _WIDE), _X86_64_V4),
        Variant("avx2", ("-march=x86-64-v3",), _X86_64_V3),
    ),
    "aarch64": (Variant("armv8", ("-march=armv8-a",), frozenset({"asimd"})),),
}


def native_variant(compiler: str) -> Variant:
    """For this CPU and this compiler; another of either gets another name."""
    file = os.stat(os.path.realpath(compiler))
    identity = [compiler, str(file.st_size), str(file.st_mtime_ns), *sorted(cpu_features())]
    flags = ("-march=native", _WIDE) if "avx512f" in cpu_features() else ("-march=native",)
    return Variant(f"native-{_digest(identity)}", flags, frozenset())


def portable_variants() -> tuple[Variant, ...]:
    """Those for this kind of machine, the best first."""
    return PORTABLE.get(platform.machine(), ())


@cache
def library_name(variant: str) -> str:
    here = Path(__file__).parent
    contents = [(here / name).read_text() for name in SOURCES + HEADERS]
    return f"kernels-{_digest([*FLAGS, *contents])}-{variant}.so"


def find_compiler() -> str:
    """The C compiler's path: `$CC`, or GCC before others, with which the kernels were measured.

    Raises:
        BuildError: there is none.
    """
    for name in (os.environ.get("CC"), "gcc", "cc", "clang"):
        if name and (path := shutil.which(name)):
            return path
    raise BuildError("there is no C compiler (cc) on the PATH")


def build(directory: Path, variant: Variant, compiler: str) -> Path:
    """Build into the directory, which is made if need be. Processes that do so at once each write a file of their own
    and put it in place whole.

    Raises:
        BuildError: the compiler failed, or the directory can't be written.
    """
    here = Path(__file__).parent
    target = directory / library_name(variant.name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".build-") as scratch:
            objects = [
                _run([compiler, *FLAGS[:-1], *variant.flags, "-c", str(here / source)], scratch, source)
                for source in SOURCES
            ]
            library = _run([compiler, *FLAGS, *objects, "-lm"], scratch, target.name)
            os.replace(library, target)
    except OSError as error:
        raise BuildError(f"{directory}: {error}") from error
    return target


def _run(command: list[str], scratch: str, name: str) -> str:
    output = str(Path(scratch) / name) + ("" if name.endswith(".so") else ".o")
    try:
        subprocess.run([*command, "-o", output], check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{command[0]} failed on {name}: {error.stderr.strip()[-2000:]}") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} took longer than {TIMEOUT_S:.0f} s for {name}") from error
    return output


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def main() -> None:
    variants = {variant.name: variant for variant in portable_variants()}
    parser = argparse.ArgumentParser(description="Build Pagemill's CPU kernels ahead of time.")
    parser.add_argument("--out", type=Path, default=PREBUILT, help="folder to build into (default: beside the package)")
    parser.add_argument(
        "--variant", choices=variants, action="append", help="default: all that this machine's kind has"
    )
    arguments = parser.parse_args()
    try:
        compiler = find_compiler()
        for name in arguments.variant or variants:
            print(build(arguments.out, variants[name], compiler))  # noqa: T201
    except BuildError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
