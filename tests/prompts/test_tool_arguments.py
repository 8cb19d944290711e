"""Arguments of earlier calls, in the two ways in which chat templates use them."""

import copy

import pytest

from pagemill.prompts.chat_template import ChatTemplate
from pagemill.prompts.tool_arguments import ToolArguments

ARGUMENTS = ToolArguments(city="Zürich", days=2)
TEXT = '{"city": "Zürich", "days": 2}'


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].arguments | tojson }}",
        "{{ '' + messages[0].arguments + '' }}",
        "{{ messages[0].arguments ~ '' }}",
        "{{ messages[0].arguments }}",
        "{{ messages[0].arguments if messages[0].arguments is string else messages[0].arguments | tojson }}",
        "{% if messages[0].arguments is mapping %}{{ messages[0].arguments | tojson }}{% endif %}",
        "{{ {'a': messages[0].arguments}['a'] | tojson }}",
    ],
)
def test_a_template_gets_the_same_text_however_it_takes_them(source: str) -> None:
    template = ChatTemplate(source, bos_token="", eos_token="")
    assert template.render([{"role": "assistant", "arguments": ARGUMENTS}]) == TEXT


def test_they_are_a_mapping_for_templates_that_walk_through_them() -> None:
    source = "{% for key, value in messages[0].arguments.items() %}{{ key }}={{ value }};{% endfor %}"
    template = ChatTemplate(source, bos_token="", eos_token="")
    assert template.render([{"role": "assistant", "arguments": ARGUMENTS}]) == "city=Zürich;days=2;"
    assert copy.deepcopy(ARGUMENTS) == {"city": "Zürich", "days": 2}
