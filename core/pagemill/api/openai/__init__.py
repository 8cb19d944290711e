"""The OpenAI dialect: `/v1/chat/completions`, `/v1/completions` and `/v1/models`, with vLLM's extra fields.

One noun per file: what a request says (`fields`, `chat_request`, `completion_request`, `messages`), what runs (`run`,
`batch`), what is said back (`envelope`, `usage`, `choice`, `logprobs`, `chunks`), and the endpoints.
"""

from pagemill.api.openai.endpoints import routes as routes
