"""The managed Python runtime's entry: set the function's handler to `pagemill_handlers.aws_lambda.managed.handler`.

To that runtime, importing the handler's module is the init phase; so this import, alone among Pagemill's, starts
something: the model's load, in the background. The first request waits for it.
"""

from pagemill_handlers.aws_lambda import handler as handler
from pagemill_handlers.aws_lambda import process_server

process_server()
