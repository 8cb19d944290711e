"""The least that a Python server on the same libraries can be: what of a cold start is theirs and the language's.

    python -m load_tests.floor_server --model MODEL.gguf --port PORT --max-num-seqs N --max-model-len N --threads N

starlette on uvicorn with uvloop and httptools (`floor_app.py`), llama.cpp through the same ctypes bindings
(`floor_model.py`), loaded on a thread while the web stack is imported. No settings, no validation, no template engine,
no scheduler: it answers one route, one request at a time, with a greedy stream.
"""

import argparse
import gc
import socket
import threading
from concurrent.futures import Future

from load_tests.floor_model import Loaded, add_load_arguments, load


def main() -> None:
    """Bind, load beside the imports, serve."""
    gc.disable()
    parser = argparse.ArgumentParser(description="the least that a Python server can be")
    parser.add_argument("--port", type=int, required=True)
    add_load_arguments(parser)
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=128)
    loaded: Future[Loaded] = Future()
    threading.Thread(target=load, args=(options, loaded), daemon=True).start()
    from load_tests.floor_app import serve

    serve(listener, loaded)


if __name__ == "__main__":
    main()
