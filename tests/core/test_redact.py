import json
import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kickwheel.core import redact
from kickwheel.core.redact import keys, numbers
from kickwheel.records import (
    AcceptedCall,
    Feedback,
    Message,
    Span,
    ToolCall,
    ToolSpec,
    Trace,
    genai,
)

digits = st.text("0123456789", min_size=1, max_size=1)
words = st.sampled_from(
    ["please", "the", "order", "for", "New York", "by train", "at noon,", "äöü"]
)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("ann@example.com, Ann@Example.com, bob@x.co.uk.", "<email_1>, <email_1>, <email_2>."),
        ("müller@büro.de schrieb", "<email_1> schrieb"),
        ("call +1 (555) 123-4567 or 555-123-4567", "call <phone_1> or <phone_1>"),
        ("030 1234567 und 0170/1234567", "<phone_1> und <phone_2>"),
        ("+44 (0)20 7946 0958", "<phone_1>"),
        ("tel. 0049 30 1234567", "tel. <phone_1>"),
        ("Her mobile number is 5551234567.", "Her mobile number is <phone_1>."),
        ("Reach me at 555-0199", "Reach me at <phone_1>"),
        ("card 4111 1111 1111 1111 exp 04/25", "card <card_1> exp 04/25"),
        ("2 4111-1111-1111-1111", "2 <card_1>"),
        ("3782 822463 10005", "<card_1>"),
        ("IBAN DE89 3704 0044 0532 0130 00 is mine", "IBAN <iban_1> is mine"),
        ("gb82west12345698765432", "<iban_1>"),
        ("key sk-proj-abc123def456ghi789jkl012", "key <key_1>"),
        ("AKIAIOSFODNN7EXAMPLE", "<key_1>"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "<key_1>"),
        ("hf_abcdefghijklmnopqrstuvwxyz", "<key_1>"),
        ("Authorization: Bearer abc.def123456789012345", "Authorization: Bearer <key_1>"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2ln", "<key_1>"),
        ("-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY----- x", "<key_1> x"),
        ("cut off: -----BEGIN PRIVATE KEY-----\nMIIEvQ", "cut off: <key_1>"),
        ("postgres://app:s3cret@db/main", "postgres://app:<key_1>@db/main"),
        ("password: hunter22!", "password: <key_1>"),
        ("export OPENAI_API_KEY='abcd1234efgh'", "export OPENAI_API_KEY='<key_1>'"),
    ],
)  # fmt: skip
def test_a_secret_becomes_a_placeholder(text: str, redacted: str) -> None:
    assert redact.text(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "A bus from San Francisco to Los Angeles on 2023-04-25, back on 2023-04-28 at 18:30.",
        "Ein Zimmer vom 01.02.2023 bis 05.02.2023 (01.02.2023-05.02.2023)",
        "Buy 4 tickets for $1,299.00, order 123456789012, zip 94110-1234",
        "started 1617235200000, took 1617235200 ns",
        "192.168.100.200 answered, version 1.2.3.4, numpy@1.26 and @dataclass",
        "ISBN 978-3-16-148410-0, EAN 4006381333931, Amazon 123-1234567-1234567",
        "trace 123e4567-e89b-12d3-a456-426614174000 at 37.774929, -122.419416",
        "call 20230425 backup, text 12345678 to vote, token count 1234567890, monkey=12345678",
        "git@github.com:a/b.git, risk-management-framework-description-2024",
        "a bearer of responsibilities in Asia in 2019 2020 2021 2022",
        "1 000 000 000 people, 3.14159265358979, 1-2-3-4-5-6-7-8, rooms 101 102 1034",
        "{'amount': 4500.0, 'year': 2015, 'phone': None}",
        "Movies_3_FindMovies(directed_by='Josephine Decker', genre='Sci-fi')",
        "4111 1111 1111 1112 breaks the sum of Luhn",
        "DE88 3704 0044 0532 0130 00 leaves another remainder",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact.text(text) is text


@given(
    day=st.dates(date(1950, 1, 1), date(2049, 12, 31)),
    form=st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%B %d, %Y", "%Y%m%d"]),
    before=words,
    after=words,
)
def test_a_date_is_no_secret(day: date, form: str, before: str, after: str) -> None:
    text = f"{before} {day.strftime(form)} {after} {day.strftime(form)}"
    assert redact.text(text) == text


@given(moment=st.datetimes(datetime(1990, 1, 1), datetime(2049, 1, 1)), price=st.floats(0, 1e8))
def test_a_time_or_a_price_is_no_secret(moment: datetime, price: float) -> None:
    for text in (f"at {moment:%Y-%m-%d %H:%M:%S}", f"for ${price:,.2f} or {price:.2f} EUR"):
        assert redact.text(text) == text


@given(
    start=st.sampled_from(["4", "51", "55", "34", "37", "6011", "2221"]),
    rest=st.lists(digits, min_size=15, max_size=15),
    gap=st.sampled_from(["", " ", "-"]),
    before=words,
    after=words,
)
def test_a_card_that_passes_luhn_never_stays(
    start: str, rest: list[str], gap: str, before: str, after: str
) -> None:
    length = 15 if start[0] == "3" else 16
    body = (start + "".join(rest))[: length - 1]
    total = sum(
        int(d) if i % 2 else sum(divmod(2 * int(d), 10)) for i, d in enumerate(reversed(body))
    )
    number = body + str(-total % 10)
    written = gap.join(number[i : i + 4] for i in range(0, length, 4))
    assert redact.text(f"{before} {written} {after}") == f"{before} <card_1> {after}"


@given(
    bank=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=4, max_size=4),
    account=st.text("0123456789", min_size=14, max_size=14),
    grouped=st.booleans(),
)
def test_an_iban_with_the_right_remainder_never_stays(
    bank: str, account: str, grouped: bool
) -> None:
    def remainder(text: str) -> int:
        return int("".join(str(int(letter, 36)) for letter in text)) % 97

    check = 98 - remainder(f"{bank}{account}GB00")
    iban = f"GB{check:02}{bank}{account}"
    written = " ".join(iban[i : i + 4] for i in range(0, 22, 4)) if grouped else iban
    assert redact.text(f"to {written} please") == "to <iban_1> please"


@given(
    user=st.from_regex(r"[a-z0-9][a-z0-9._+-]{0,20}[a-z0-9]", fullmatch=True),
    host=st.from_regex(r"[a-z0-9]{1,10}\.(com|de|co\.uk)", fullmatch=True),
    before=words,
)
def test_an_address_never_stays(user: str, host: str, before: str) -> None:
    assert redact.text(f"{before} {user}@{host}, thanks") == f"{before} <email_1>, thanks"


@given(st.text(max_size=200))
@example("<email_1> and ann@example.com")
@example("<phone_1> or call +1 555 123 4567")
@example("password: password: abc12345")
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact.text(text)
    assert redact.text(once) == once


def test_a_placeholder_that_stands_there_is_not_given_to_another_value() -> None:
    assert redact.text("<email_1> and ann@example.com") == "<email_1> and <email_2>"


def test_a_call_s_argument_stays_the_one_that_the_question_named() -> None:
    question = Message(role="user", content="Text (555) 123-4567 and mail ann@example.com")
    arguments = {"to": "+15551234567", "number": 5551234567, "mail": "ANN@example.com", "n": 7}
    answer = Message(
        role="assistant",
        tool_calls=(ToolCall(id="c", name="send", arguments=json.dumps(arguments)),),
    )
    clean = redact.trace(_trace((question,), (answer,)))
    assert clean.spans[0].input[0].content == "Text <phone_1> and mail <email_1>"
    assert json.loads(clean.spans[0].output[0].tool_calls[0].arguments) == {
        "to": "<phone_1>",
        "number": "<phone_1>",
        "mail": "<email_1>",
        "n": 7,
    }


def test_what_a_later_text_calls_a_phone_number_is_one_in_the_earlier_texts() -> None:
    asked = (
        Message(role="user", content="It is 5551234567"),
        Message(role="user", content="my phone number: 5551234567"),
    )
    clean = redact.trace(_trace(asked, ()))
    assert [m.content for m in clean.spans[0].input] == [
        "It is <phone_1>",
        "my phone number: <phone_1>",
    ]


def test_feedback_is_redacted_like_the_question() -> None:
    question = Message(role="user", content="Pay ann@example.com")
    feedback = Feedback(
        verdict="good",
        accepted=(AcceptedCall(name="pay", arguments={"to": ("bob@x.org", "ann@example.com")}),),
        note="asked by bob@x.org",
    )
    clean = redact.trace(_trace((question,), (), feedback)).feedback[0]
    assert clean.accepted[0].arguments == {"to": ("<email_2>", "<email_1>")}
    assert clean.note == "asked by <email_2>"


def test_a_clean_trace_is_the_same_object() -> None:
    tool = ToolSpec(name="t", description="for example to ann@example.com")
    trace = _trace((Message(role="user", content="hello"),), (), tools=(tool,))
    assert redact.trace(trace) is trace


def test_a_key_in_a_tool_s_text_goes() -> None:
    tool = ToolSpec(name="t", parameters={"default": "sk-abc123def456ghi789jkl012"})
    clean = redact.trace(_trace((Message(role="user", content="hi"),), (), tools=(tool,)))
    assert clean.spans[0].tools[0].parameters == {"default": "<key_1>"}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=30),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    )
)
def test_arguments_stay_json(value: Any) -> None:
    call = ToolCall(id="c", name="t", arguments=json.dumps({"mail": "a@b.com\n", "value": value}))
    message = Message(role="assistant", tool_calls=(call,))
    clean = json.loads(redact.message(message).tool_calls[0].arguments)
    assert clean["mail"] == "<email_1>\n"


def test_a_name_says_what_a_value_is() -> None:
    plain = {
        "phone": "5551234567",
        "id": "5551234568",
        "password": "hunter22",
        "n": [1, True, None],
    }
    assert redact.Redaction().plain(plain) == {
        "phone": "<phone_1>",
        "id": "5551234568",
        "password": "<key_1>",
        "n": [1, True, None],
    }


def test_a_long_text_without_end_takes_no_longer_than_it_is_long() -> None:
    for text in ("a" * 200_000, "1" * 200_000, "1 " * 100_000, "a@" * 50_000, "+1" * 50_000):
        redact.text(text)


def _trace(
    asked: tuple[Message, ...],
    answered: tuple[Message, ...],
    *feedback: Feedback,
    tools: tuple[ToolSpec, ...] = (),
) -> Trace:
    span = Span(
        id="0" * 16,
        kind="model",
        name="m",
        start_ns=0,
        end_ns=1,
        input=asked,
        output=answered,
        tools=tools,
    )
    return Trace(id="0" * 32, workload="w", spans=(span,), feedback=feedback)


def test_a_text_that_was_plain_elsewhere_is_read_again_where_its_number_is_a_phones() -> None:
    text = "The order is 5551234567, and " + "nothing else stands in this long text. " * 4
    assert redact.text(text) == text
    conversation = redact.Redaction()
    assert conversation.text("My phone is 555-123-4567") == "My phone is <phone_1>"
    assert conversation.text(text) == text.replace("5551234567", "<phone_1>")


def test_a_placeholder_in_a_text_that_was_read_elsewhere_is_still_taken() -> None:
    text = "Write to <email_1> about it; " + "nothing else stands in this long text. " * 4
    assert redact.text(text) == text
    conversation = redact.Redaction()
    assert conversation.text(text) == text
    assert conversation.text("and to ann@example.com") == "and to <email_2>"


_PIECES = (
    "Where is my order? ann@example.com 555-123-4567 +49 30 1234567 2026-11-25 "
    "sk-abc123def456ghi789 "
    "ghp_abcdefghij1234567890 password:hunter22x <email_1> call me at 5551234567 bearer "
    'abcdef0123456789xyz AKIAIOSFODNN7EXAMPLE {"phone":"5551234567"} 4111111111111111 \\u0040'
)


@given(
    contents=st.lists(
        st.lists(st.sampled_from(_PIECES.split(" ")), max_size=6).map(" ".join), max_size=5
    )
)
def test_a_conversation_seen_at_a_glance_is_redacted_as_message_by_message(
    contents: list[str],
) -> None:
    messages = tuple(
        Message(role="user", content=text)
        if position % 2
        else Message(role="assistant", tool_calls=(ToolCall(id="c", name="say", arguments=text),))
        for position, text in enumerate(contents)
    )
    span = Span(id="1", kind="model", name="m", start_ns=0, end_ns=1, input=messages)
    one_by_one = redact.Redaction()
    for _ in range(2):
        expected = tuple(one_by_one.message(message) for message in messages)
    found = redact.trace(Trace(id="0", workload="w", spans=(span,)))
    if one_by_one.names.numbers:
        assert found.spans[0].input == expected
    else:
        once = redact.Redaction()
        assert found.spans[0].input == tuple(once.message(message) for message in messages)


_LOOKS = [
    (keys.KEY, keys.shaped),
    (keys.ASSIGNED, lambda text: keys.names_secret(text.lower())),
    (numbers.RUN, numbers.has_run),
]


@pytest.mark.parametrize(("pattern", "look"), _LOOKS, ids=["key", "assigned", "run"])
@given(data=st.data())
def test_what_a_pattern_finds_is_seen_at_a_glance(
    pattern: re.Pattern[str], look: Callable[[str], bool], data: st.DataObject
) -> None:
    assert look(data.draw(st.from_regex(pattern)))


@given(st.text("0159 ().-/\u00a0\u2011\u2013?x日\ud800", max_size=30))
def test_a_run_of_digits_is_one_at_a_glance_and_nothing_else_is(text: str) -> None:
    assert numbers.has_run(text) == (numbers.RUN.search(text) is not None)


@given(
    attributes=st.dictionaries(
        st.sampled_from([genai.USER_AGENT, genai.SEED, "phone", "api_key", "ann@example.com"]),
        st.sampled_from([*_PIECES.split(" "), 5551234567, 4111111111111111, 7, 0.5, True, [], {}])
        | st.lists(st.sampled_from(_PIECES.split(" ")), max_size=3)
        | st.dictionaries(st.sampled_from(["mobile", "token"]), st.sampled_from([5551234567, 1])),
        max_size=4,
    ),
    error=st.none() | st.sampled_from(_PIECES.split(" ")),
)
def test_a_span_seen_at_a_glance_is_redacted_as_attribute_by_attribute(
    attributes: dict[str, Any], error: str | None
) -> None:
    one = Span(
        id="1", kind="model", name="m", start_ns=0, end_ns=1, attributes=attributes, error=error
    )
    one_by_one = redact.Redaction()
    for _ in range(2):
        expected = one_by_one.plain(attributes), error and one_by_one.text(error)
    found = redact.trace(Trace(id="0", workload="w", spans=(one,))).spans[0]
    assert (found.attributes, found.error) == expected
