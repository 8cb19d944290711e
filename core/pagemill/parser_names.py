"""How models write tool calls and reasoning, by the names that the settings have for it; vLLM's where it has one.

Owns no state; the parsers are in `prompts/`. May import nothing of Pagemill.
"""

from typing import Literal, TypeAlias

ToolCallParser: TypeAlias = Literal[
    "auto",
    "none",
    "hermes",
    "llama3_json",
    "granite",
    "phi4_mini_json",
    "llama4_pythonic",
    "mistral",
    "qwen3_coder",
    "seed_oss",
    "glm45",
    "pythonic",
    "deepseek_v3",
    "deepseek_v31",
    "deepseek_v32",
    "deepseek_v4",
    "kimi_k2",
    "minimax",
    "jamba",
    "minimax_m2",
    "nemotron_json",
    "cohere_command3",
    "cohere_command4",
    "qwen3_xml",
    "glm47",
    "granite4",
    "openai",
]
ReasoningParser: TypeAlias = Literal[
    "auto",
    "none",
    "think",
    "qwen3",
    "deepseek_r1",
    "mistral",
    "reasoning",
    "cohere_command3",
    "cohere_command4",
    "seed_oss",
    "granite",
    "openai_gptoss",
]
