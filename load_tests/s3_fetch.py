"""A fetch from S3 beside 16 plain parallel ranged GETs, from the same server on loopback, in turn.

The plain client does nothing but read: http.client, presigned, into memory that is there. Ours finds the object,
reads it into a file or into memory, and checks its checksum. The server is moto's, in a process of its own; `--server
ranges` takes one that only sends a file, to see what a fetch costs when the server is fast.
"""

import argparse
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3

from load_tests.measures import Spread, spread
from load_tests.report import format_spread, save, table
from pagemill.store.fetch import MEMORY, fetch
from pagemill.store.references import resolve
from pagemill.store.remote import FetchOptions, RemoteReference

MIB = 2**20
NUM_GETS = 16
AIM = 0.70
BUCKET, KEY = "models", "model.gguf"
PLAIN, FILE = "16 plain ranged GETs", "file"
MOTO = """
import sys, threading
from moto.server import ThreadedMotoServer
ThreadedMotoServer("127.0.0.1", int(sys.argv[1]), verbose=False).start()
threading.Event().wait()
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description="a fetch from S3 beside plain parallel ranged GETs")
    parser.add_argument("--server", choices=("moto", "ranges"), default="moto", help="(%(default)s)")
    parser.add_argument("--mib", type=int, default=256, help="size of the object (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="of each, in turn (%(default)s)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / KEY
        block = os.urandom(MIB)
        model.write_bytes(b"GGUF" + (block * options.mib)[4:])
        with _server(options.server, model) as port:
            _use(port)
            url = _prepare(options.server, model)
            runs = measure(url, model.stat().st_size, Path(folder), options.repeats)
    figures = {name: spread(values) for name, values in runs.items()}
    _print(options, figures)
    if not options.no_save:
        ratios = {name: value.median / figures[PLAIN].median for name, value in figures.items() if name != PLAIN}
        print("saved", save("s3-fetch", {"options": vars(options), "bytes_per_s": runs, "ratios": ratios, "aim": AIM}))


def measure(url: str, size: int, folder: Path, repeats: int) -> dict[str, list[float]]:
    """Bytes per second of each way, after one run of each that is not counted."""
    runs: dict[str, list[float]] = {PLAIN: [], FILE: [], MEMORY: []}
    for repeat in range(repeats + 1):
        for name, values in runs.items():
            if name == PLAIN:
                duration_s = _read_plainly(url, size)
            else:
                with tempfile.TemporaryDirectory(dir=folder) as cache:
                    duration_s = _fetch(MEMORY if name == MEMORY else cache)
            if repeat:
                values.append(size / duration_s)
    return runs


def _read_plainly(url: str, size: int) -> float:
    """The seconds that 16 GETs at once take, each of a sixteenth."""
    place = urlsplit(url)
    content = memoryview(bytearray(size))

    def read(number: int) -> None:
        start, end = size * number // NUM_GETS, size * (number + 1) // NUM_GETS
        connection = http.client.HTTPConnection(str(place.hostname), place.port)
        connection.request("GET", f"{place.path}?{place.query}", headers={"Range": f"bytes={start}-{end - 1}"})
        response = connection.getresponse()
        if response.status != 206:
            raise RuntimeError(f"the server answered {response.status}: {response.read()!r}")
        while start < end:
            start += response.readinto(content[start:end])
        connection.close()

    threads = [threading.Thread(target=read, args=(number,)) for number in range(NUM_GETS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def _fetch(download_dir: str) -> float:
    reference = resolve(f"s3://{BUCKET}/{KEY}")
    assert isinstance(reference, RemoteReference)
    options = FetchOptions(download_dir, NUM_GETS, part_bytes=None, timeout_s=60, max_retries=0, sha256=None)
    started = time.perf_counter()
    fetch(reference, options)
    return time.perf_counter() - started


@contextmanager
def _server(kind: str, model: Path) -> Iterator[int]:
    """Its port; it ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ranges = ["-m", "load_tests.range_server", str(model), str(port)]
    command = [sys.executable, *(ranges if kind == "ranges" else ["-c", MOTO, str(port)])]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _wait_until_it_listens(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def _wait_until_it_listens(port: int, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the server ended with {process.returncode}")


def _use(port: int) -> None:
    os.environ |= {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def _prepare(kind: str, model: Path) -> str:
    """Upload the object; a URL to read it by."""
    client: Any = boto3.client("s3")
    if kind == "moto":
        client.create_bucket(Bucket=BUCKET)
        with model.open("rb") as content:
            client.put_object(Bucket=BUCKET, Key=KEY, Body=content)
    url: str = client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": KEY})
    return url


def _print(options: argparse.Namespace, figures: Mapping[str, Spread]) -> None:
    plain = figures[PLAIN].median
    rows = [(name, format_spread(value, 1e-6, 0), f"{value.median / plain:.2f}") for name, value in figures.items()]
    print(f"\n{options.mib} MiB from {options.server} on loopback, {options.repeats} runs of each in turn")
    print(table(("way", "MB/s: median (low-high)", "ratio"), rows))
    print(f"aim: at least {AIM:.2f}\n")


if __name__ == "__main__":
    main()
