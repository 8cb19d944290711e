"""What is asked of the server in a conversation."""

from pagemill.cli.conversation import Conversation

MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}]


def test_what_was_not_set_is_not_asked_for() -> None:
    assert Conversation("m").request() == {"model": "m", "messages": [], "options": {}}


def test_format_thinking_and_keep_alive_go_with_every_message() -> None:
    conversation = Conversation("m", "5m", "Be brief.", {"seed": 1}, "json", False, list(MESSAGES))
    assert conversation.request() == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, *MESSAGES],
        "options": {"seed": 1},
        "keep_alive": "5m",
        "format": "json",
        "think": False,
    }


def test_a_model_of_it_begins_with_what_the_model_began_with() -> None:
    conversation = Conversation("m", system="Be brief.", options={"seed": 1}, messages=list(MESSAGES))
    assert conversation.as_model("new", [{"role": "user", "content": "before"}]) == {
        "model": "new",
        "from": "m",
        "system": "Be brief.",
        "parameters": {"seed": 1},
        "messages": [{"role": "user", "content": "before"}, *MESSAGES],
    }
    assert Conversation("m").as_model("copy", ()) == {"model": "copy", "from": "m"}
