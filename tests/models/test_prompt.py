import pytest

from kickwheel.core.errors import DataError
from kickwheel.models.prompt import Template, answer_text
from kickwheel.records import Message, PromptForm, ToolCall, ToolSpec

# The template of SmolLM2-135M-Instruct, word for word.
SMOL = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}"
)
STRICT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '<' + m['role'] + '>' + m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<model>{% endif %}"
)
FIND = ToolSpec(
    name="find",
    description="Finds.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
)
ASKED = (
    Message(role="system", content="Be brief."),
    Message(role="user", content=" Where? "),
)
CALL = Message(
    role="assistant",
    tool_calls=(ToolCall(id="a", name="find", arguments='{"city": "Rome"}'),),
)


def test_the_shortest_form_holds_the_question_and_nothing_else() -> None:
    template = Template(SMOL, bos="<|im_start|>", eos="<|im_end|>")
    assert template.prompt(ASKED, [FIND], PromptForm(tools="none", system=False)) == (
        "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_signatures_stand_in_the_system_turn_behind_its_text() -> None:
    template = Template(SMOL)
    assert template.prompt(ASKED, [FIND], PromptForm(tools="signatures")) == (
        "<|im_start|>system\nBe brief.\n\nfind(city)<|im_end|>\n"
        "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_full_form_holds_the_schemas() -> None:
    prompt = Template(SMOL).prompt(ASKED, [FIND], PromptForm())
    assert '"description": "Finds."' in prompt
    assert "Be brief." in prompt


def test_calls_and_results_stand_in_the_conversation_as_text() -> None:
    said = (
        *ASKED,
        CALL,
        Message(role="tool", content="sunny", tool_call_id="a"),
    )
    prompt = Template(SMOL).prompt(said, [FIND], PromptForm(tools="none"))
    assert "<|im_start|>assistant\nfind\ncity: Rome<|im_end|>\n<|im_start|>tool\nsunny" in prompt


def test_a_template_that_knows_no_system_turn_is_asked_without_one() -> None:
    template = Template(STRICT, bos="<s>")
    form = PromptForm(tools="none", system=False)
    assert template.prompt(ASKED, [], form) == "<s><user>Where?<model>"
    with pytest.raises(DataError, match="System role not supported"):
        template.prompt(ASKED, [], PromptForm(tools="none"))


def test_what_begins_a_text_stays_when_the_system_turn_is_left_out() -> None:
    template = Template("{{ bos_token }}" + SMOL, bos="<s>")
    assert template.prompt(ASKED, [], PromptForm(system=False)).startswith("<s><|im_start|>user")


def test_an_answer_is_its_calls_or_its_text() -> None:
    assert answer_text(CALL, [FIND]) == "find\ncity: Rome"
    assert Template(SMOL, eos="<|im_end|>").answer(CALL, [FIND]) == "find\ncity: Rome<|im_end|>"


def test_a_template_cannot_reach_out() -> None:
    with pytest.raises(DataError):
        Template("{{ ''.__class__.__mro__ }}").prompt(ASKED, [], PromptForm())
    with pytest.raises(DataError, match="no Jinja"):
        Template("{% for %}")
