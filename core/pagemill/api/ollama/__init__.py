"""The Ollama dialect: what Ollama's own clients speak, under `/api` and `/`."""

from pagemill.api.ollama.endpoints import routes as routes
