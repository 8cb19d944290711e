"""`/v1/responses`, without a memory: every request carries its whole conversation.

What a request says is in `request`, `input_items` and `tools`; what is said back in `output_items` and `response`.
"""
