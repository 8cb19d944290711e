"""Removes from an environment what a running server never reads: `python trim.py PREFIX`.

Headers, static libraries, type stubs, tests; of llama-cpp-python its server, its second copies of libraries (a wheel
can't hold links) and diskcache, which only its high-level API would import; of botocore most of AWS. Owns nothing but
the folder it is given.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

UNREAD_SUFFIXES = {".a", ".h", ".hpp", ".cuh", ".hip", ".cmake", ".pyi", ".pxd", ".pyx"}
UNREAD_FOLDERS = ("**/tests", "llama_cpp/server", "llama_cpp/include", "llama_cpp/lib/cmake", "llama_cpp/lib/pkgconfig")
UNREAD_PACKAGES = ("diskcache", "diskcache-*.dist-info")
GONE = "*.dist-info/direct_url.json"  # where our wheel lay when it was installed
# What is loaded: libllama by this name, the rest by the names that it asks for, or by pagemill.backends.gguf.library.
LLAMA_LIBRARIES = ("libllama.so", "libggml.so.0", "libggml-base.so.0", "libggml-cpu-*.so")
# Of AWS's services the bucket, and those by which boto3 finds credentials. The rest are 20 MB of descriptions.
AWS_SERVICES = {"s3", "sts", "sso", "sso-oidc", "signin"}
OURS = "pagemill"  # its C sources name its prebuilt kernels


def unread(packages: Path) -> Iterator[Path]:
    """Files and folders to remove, those within a removed folder perhaps too."""
    for pattern in (*UNREAD_FOLDERS, *UNREAD_PACKAGES, GONE):
        yield from packages.glob(pattern)
    for path in packages.rglob("*"):
        if path.suffix in UNREAD_SUFFIXES and path.relative_to(packages).parts[0] != OURS:
            yield path
    yield from (path for path in packages.glob("botocore/data/*/") if path.name not in AWS_SERVICES)
    for path in packages.glob("llama_cpp/lib/lib*"):
        if not any(path.match(pattern) for pattern in LLAMA_LIBRARIES):
            yield path


def main() -> None:
    prefix = Path(sys.argv[1])
    (packages,) = prefix.glob("lib/python3*/site-packages")
    before = size_of(prefix)
    for path in list(unread(packages)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_symlink() or path.exists():
            path.unlink()
    print(f"trimmed {prefix}: {before / 1e6:.1f} MB to {size_of(prefix) / 1e6:.1f} MB")
    for path in sorted(packages.iterdir(), key=size_of, reverse=True)[:12]:
        print(f"  {size_of(path) / 1e6:8.1f} MB  {path.name}")


def size_of(path: Path) -> int:
    """Bytes of the files in the folder, or of the file."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    main()
