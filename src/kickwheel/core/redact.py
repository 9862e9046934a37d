"""Secrets and personal data out of text, once, before anything is kept, logged or shown.

    redact.text("Mail ann@example.com")  →  "Mail <email_1>"

Found are e-mail addresses, phone numbers, cards (by Luhn's sum), IBANs (by their remainder 97),
passwords and API keys of the common shapes. The same value gets the same placeholder throughout
one conversation, so that a call's argument stays the one that the question named.

Rules, not a model: names and addresses of people stay. Where a number may be a date, a price or
an id as well as a phone number, it stays unless it is written as a phone number or called one.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import is_
from typing import Any

from kickwheel.records import (
    AcceptedCall,
    Feedback,
    Image,
    Message,
    Span,
    ToolCall,
    ToolSpec,
    Trace,
    genai,
)

SHORTEST = 6
"""Characters of the shortest text in which something may be found, `a@b.io`."""
SHORTEST_KEY = 14
"""Characters of the shortest key that is known by its shape alone."""
SHORTEST_PASSWORD = 8
"""Characters of the shortest key of ours that is secret."""
PLAIN_CHARS = 8 << 20
"""Characters of the texts together that are known to hold nothing in any conversation."""
PLAIN_FROM, PLAIN_TO = 100, 1 << 15
"""How long such a text is: shorter ones are read as fast as looked up."""

_SEP = r"[ .\-/\u00a0\u2011\u2013]"
_RUN = re.compile(r"\d[\d ().\-/\u00a0\u2011\u2013]{5,}\d", re.ASCII)
_LONG_RUN = re.compile(r"\d(?:[ ().\-/\u00a0\u2011\u2013]{0,3}\d){8}", re.ASCII)
_OF_A_RUN = bytes(
    ord("1" if byte in b"0123456789 ().-/\xa0?" else "x") for byte in range(256)
)  # In Latin-1, where "?" stands for what that lacks.
_PLACEHOLDER = re.compile(r"<(?:email|phone|card|iban|key)_\d+>")

# Marks without which a pattern cannot match: `in` is far cheaper than the patterns.
_SHAPED = ("AKIA", "ASIA", "AIza", "eyJ")
_SHAPED_ = (
    "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat", "hf_", "k_live_", "k_test_", "npm_",
    "whsec_",
)  # fmt: skip
"""The same, of keys that have a `_`, which prose seldom has."""
_SHAPED_DASH = ("sk-", "glpat-", "xox", "nvapi-")
"""The same, of keys that have a `-`."""
_SECRET = ("passw", "apikey", "api_key", "api-key", "secret", "access", "private", "auth")
_SECRET_TOO = ("passw", "secret", "key", "token")
"""One of these as well: fewer to look for where there are none."""
_BLOCK = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_KEY = re.compile(
    r"""(?<![\w-])(?:
        sk-(?=[A-Za-z_-]{0,40}\d)[A-Za-z0-9_-]{16,}              # OpenAI, Anthropic
      | (?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])            # AWS
      | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_\w{22,}
      | glpat-[\w-]{20,} | hf_[A-Za-z0-9]{20,} | npm_[A-Za-z0-9]{36}
      | xox[abeoprs]-[\w-]{10,} | AIza[\w-]{35} | nvapi-[\w-]{20,}
      | [prs]k_(?:live|test)_[A-Za-z0-9]{10,} | whsec_[A-Za-z0-9+/=]{16,}
      | eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*                  # JWT
    )""",
    re.VERBOSE | re.ASCII,
)
_BEARER = re.compile(r"\b(bearer\s+)((?=[^\s\"']*\d)[\w.~+/-]{16,}=*)", re.IGNORECASE | re.ASCII)
_URL_PASSWORD = re.compile(r"(://[^\s/:@]+:)([^\s/@]{3,})(?=@)")
_ASSIGNED = re.compile(
    r"""((?:api[_-]?key|(?:secret|access|private)[_-]?key|(?:access|auth|secret)[_-]?token
        |client[_-]?secret|passwor[dt]|passwd)\\?["']?\s*(?:[:=]|\bis\b)\s*\\?["']?)
        ((?=[^\s"',;<]*\d)[^\s"',;<>\\]{8,})""",
    re.VERBOSE | re.IGNORECASE,
)
_EMAIL = re.compile(
    r"(?<![\w.%+-])(?!git@)[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ \u00a0-]?[A-Za-z0-9]){11,30}", re.ASCII)
_INTERNATIONAL = re.compile(
    rf"(?<![\w+])(?:\+|(?<!\d{_SEP})00(?=[1-9]\d?{_SEP}))\d{{1,4}}(?:{_SEP}?\(?\d{{1,14}}\)?){{1,7}}(?!\w)",
    re.ASCII,
)
_AMERICAN = re.compile(
    rf"""(?<![\w+])(?<!\d{_SEP})(?:1[ .-])?
        (?:(?:\(\d{{3}}\)[ ]?|\d{{3}}[.\-\u2011])\d{{3}}[ .\-\u2011]
          |[2-9]\d{{2}}[ ][2-9]\d{{2}}[ ])\d{{4}}(?!\w)(?![.\-]\d)""",
    re.VERBOSE | re.ASCII,
)
_NATIONAL = re.compile(
    rf"(?<![\w+])(?<!\d{_SEP})\(?0[1-9]\d{{0,4}}\)?(?:{_SEP}\d{{2,8}}){{1,5}}(?!\w)", re.ASCII
)
_CALLED = (
    "phone",
    "telefon",
    "tel",
    "mobile",
    "cell",
    "fax",
    "whatsapp",
    "sms",
    "handy",
    "call ",
    "text ",
    "reach ",
)
_AFTER_A_WORD = re.compile(
    r"""((?:phone|telefon|\btel|mobile|\bcell|\bfax|whatsapp|\bsms|\bhandy
        |\b(?:call|text|reach)\s+(?:me|us|him|her|them)\s+(?:at|on|under))
        (?:[ ._-]?(?:number|no|nr))?\b[^\d\n+(,;{}]{0,16})
        (\+?\(?\d[\d ().\-/]{5,}\d)(?!\w)""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_DATE = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d[./-]\d\d?[./-]\d\d?|\d\d?[./-]\d\d?[./-](?:19|20)\d\d"
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01]))(?!\d)"
)
_PHONE_NAME = re.compile(r"phone|mobile|telefon|whatsapp|(?:^|_)(?:tel|fax|cell|sms)(?:_|$)")
_KEY_NAME = re.compile(
    r"passwor[dt]|passwd|secret|api_?key|access_?key|private_?key|auth\w*_?token"
)

# Length of an IBAN by country: SWIFT's IBAN registry, release 99.
_IBAN_LENGTH = {
    country: int(length)
    for country, length in re.findall(
        r"(\D\D)(\d\d)",
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29"
        "ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20"
        "LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29"
        "PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20"
        "YE30",
    )
}


def text(value: str) -> str:
    """The text with placeholders."""
    return Redaction().text(value)


def secrets(value: Any) -> Any:
    """Plain JSON values with placeholders for keys, tokens and passwords in their texts alone: what
    is people's stays as it is."""
    if isinstance(value, str):
        return Redaction()._keys(value, value.lower())
    if isinstance(value, Mapping):
        return {key: secrets(entry) for key, entry in value.items()}
    return [secrets(entry) for entry in value] if isinstance(value, list | tuple) else value


def message(value: Message) -> Message:
    """The message with placeholders in its content and in its calls' arguments."""
    return Redaction().message(value)


def trace(value: Trace) -> Trace:
    """The trace with placeholders in all that was said, called, answered and noted.

    The same object where nothing was found. Names, ids and the tools' own texts stay, but for keys
    in the latter.
    """
    return Redaction().trace(value)


def without(value: str, key: str | None) -> str:
    """The text with `[key]` for our own key, should a server have repeated it.

    `none` and `x`, which are written where a server wants no key, are no secrets.
    """
    return value.replace(key, "[key]") if key and len(key) >= SHORTEST_PASSWORD else value


def redacted(value: str) -> bool:
    """Whether a placeholder stands in the text."""
    return "<" in value and _PLACEHOLDER.search(value) is not None


def placeholders(value: str) -> dict[str, int]:
    """The highest number of each kind of placeholder in the text: `{"email": 2}`."""
    found: dict[str, int] = {}
    for one in _PLACEHOLDER.findall(value) if "<" in value else ():
        kind, _, number = one[1:-1].rpartition("_")
        found[kind] = max(found.get(kind, 0), int(number))
    return found


_OURS = frozenset(v for k, v in vars(genai).items() if k.isupper())
"""Names of attributes that we write ourselves: they say nothing of their values."""


class _Plain:
    """Texts that no conversation makes anything else of: prompts, and what agents say again with
    every step. They hold nothing to hide, no placeholder, and no number that another text could
    call a phone's."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self._chars = 0

    def add(self, text: str) -> None:
        """Keeps such a text, if it is long enough to be worth it."""
        if not PLAIN_FROM <= len(text) <= PLAIN_TO:
            return
        if self._chars > PLAIN_CHARS:
            self.texts, self._chars = set(), 0
        self.texts.add(text)
        self._chars += len(text)


_plain = _Plain()


class Redaction:
    """The redaction of one conversation: equal values get equal placeholders."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._numbers: dict[str, str] = {}
        self._taken: set[str] = set()
        self._count: dict[str, int] = {}
        self._clean: set[str] = set()
        """Texts in which nothing was found: the spans of a trace say much again. Not asked once
        there are numbers, which make others out of them."""
        self._read: dict[int, Message] = {}
        """Messages in which nothing was found, by identity: each model call repeats those before.
        Not asked either once there are numbers."""

    @property
    def given(self) -> dict[str, int]:
        """The highest number that a placeholder of each kind has."""
        return dict(self._count)

    def after(self, given: Mapping[str, int]) -> None:
        """Leaves these numbers, which another redaction of the same conversation gave, out."""
        for kind, number in given.items():
            self._count[kind] = max(number, self._count.get(kind, 0))

    def rest(self) -> None:
        """Forgets what was only noted for speed, before the conversation goes on much later."""
        self._clean.clear()
        self._read.clear()

    def text(self, value: str) -> str:
        """The text with placeholders; the same object where nothing was found."""
        if len(value) < SHORTEST:
            return value
        if not self._numbers and (value in self._clean or value in _plain.texts):
            return value
        found = self._text(value)
        if found == value:
            self._clean.add(value)
            if "<" not in value and not _has_run(value):
                _plain.add(value)
            return value
        return found

    def _text(self, value: str) -> str:
        lower = value.lower()
        if "<" in value:
            self._taken.update(_PLACEHOLDER.findall(value))
        value = self._keys(value, lower)
        if "@" in value:
            value = _EMAIL.sub(lambda m: self._name("email", m[0].lower(), m[0]), value)
        if _has_run(value):
            value = self._digits(value, lower)
        return value

    def message(self, value: Message) -> Message:
        """The message with placeholders; the same object where nothing was found."""
        if self._read.get(id(value)) is value and not self._numbers:
            return value
        content = value.content if value.content is None else self.text(value.content)
        calls = tuple(self._call(call) for call in value.tool_calls)
        images = self._images(value.images) if value.images else value.images
        same = content is value.content and images is value.images
        if same and _same(calls, value.tool_calls):
            self._read[id(value)] = value
            return value
        return replace(value, content=content, tool_calls=calls, images=images)

    def plain(self, value: Any, name: str = "") -> Any:
        """Plain JSON values with placeholders, in keys too; the same object where nothing was
        found.

        Args:
            name: the key that `value` stands under: `{"phone": "5551234567"}` says what it is.
        """
        if isinstance(value, str):
            return self._named(value, name.lower()) if name else self.text(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1_000_000:
            found = self._named(str(value), name.lower())
            return value if found == str(value) else found
        if value is None or isinstance(value, int | float):
            return value
        if isinstance(value, list | tuple):
            entries = [self.plain(entry, name) for entry in value]
            return value if _same(entries, value) else type(value)(entries)
        # Asked last: whether something is a mapping takes longest to tell.
        if isinstance(value, Mapping):
            changed = {
                k if k in _OURS else self.text(str(k)): self.plain(v, "" if k in _OURS else str(k))
                for k, v in value.items()
            }
            same = all(k in changed and changed[k] is v for k, v in value.items())
            return value if same else changed
        return value

    def span(self, value: Span) -> Span:
        """The span with placeholders; the same object where nothing was found."""
        tools = tuple(map(_tool, value.tools))
        if not _same(tools, value.tools):
            value = replace(value, tools=tools)
        return value if self._skim(value) else self._span(value)

    def trace(self, value: Trace) -> Trace:
        """The trace with placeholders; the same object where nothing was found."""
        found = self._trace(value)
        # A number that only a later text calls a phone number is one in the earlier texts too.
        return self._trace(value) if self._numbers else found

    def feedback(self, value: Feedback) -> Feedback:
        """The feedback with placeholders; the same object where nothing was found."""
        answer = None if value.answer is None else self.message(value.answer)
        accepted = tuple(self._accepted(call) for call in value.accepted)
        note = self.text(value.note)
        if answer is value.answer and _same(accepted, value.accepted) and note is value.note:
            return value
        return replace(value, answer=answer, accepted=accepted, note=note)

    def _trace(self, value: Trace) -> Trace:
        spans = tuple(self.span(span) for span in value.spans)
        feedback = tuple(self.feedback(said) for said in value.feedback)
        if _same(spans, value.spans) and _same(feedback, value.feedback):
            return value
        return replace(value, spans=spans, feedback=feedback)

    def _skim(self, span: Span) -> bool:
        """Whether one look at all that is new in the span finds nothing."""
        if self._numbers:
            return False
        new = [m for m in (*span.input, *span.output) if self._read.get(id(m)) is not m]
        texts: list[str] = []
        long: list[str] = []
        for m in new:
            if m.images and any(image.url for image in m.images):
                return False
            said = m.content
            if said is not None:
                if len(said) < PLAIN_FROM:
                    texts.append(said)
                elif said not in _plain.texts:
                    long.append(said)
            for call in m.tool_calls:
                if "\\" in call.arguments:
                    return False  # What an escape hides is not seen here.
                texts.append(call.arguments)
        if span.error is not None:
            texts.append(span.error)
        _gather(span.attributes, texts)
        if _suspect("\n".join(long + texts)):
            return False
        for said in long:
            _plain.add(said)
        for m in new:
            self._read[id(m)] = m
        return True

    def _span(self, value: Span) -> Span:
        attributes = self.plain(value.attributes)
        error = value.error if value.error is None else self.text(value.error)
        asked = tuple(self.message(m) for m in value.input)
        answered = tuple(self.message(m) for m in value.output)
        if (
            attributes is value.attributes
            and error is value.error
            and _same(asked, value.input)
            and _same(answered, value.output)
        ):
            return value
        return replace(value, attributes=attributes, error=error, input=asked, output=answered)

    def _accepted(self, call: AcceptedCall) -> AcceptedCall:
        arguments = self.plain(call.arguments)
        return call if arguments is call.arguments else replace(call, arguments=arguments)

    def _images(self, images: tuple[Image, ...]) -> tuple[Image, ...]:
        """The pictures, with their URLs up to the query, which is often a key."""
        shown = tuple(
            replace(image, url=self.text(image.url.partition("?")[0])) if image.url else image
            for image in images
        )
        return images if shown == images else shown

    def _call(self, call: ToolCall) -> ToolCall:
        # As JSON where it is JSON: keys say what values are, escapes are no letters, and a number
        # that becomes a placeholder must become a string.
        if self.text(call.arguments) is call.arguments and not self._numbers:
            lower = call.arguments.lower()
            if not (_PHONE_NAME.search(lower) or _KEY_NAME.search(lower)):
                return call
        try:
            arguments = json.loads(call.arguments)
        except ValueError:
            found = self.text(call.arguments)
            return call if found is call.arguments else replace(call, arguments=found)
        changed = self.plain(arguments)
        if changed is arguments:
            return call
        return replace(call, arguments=json.dumps(changed, ensure_ascii=False))

    def _named(self, value: str, name: str) -> str:
        if _PHONE_NAME.search(name) and _is_phone(value):
            return self._number("phone", value)
        if _KEY_NAME.search(name) and len(value) >= 8 and re.fullmatch(r"(?=.*\d)[^\s<>]+", value):
            return self._name("key", value, value)
        return self.text(value)

    def _keys(self, value: str, lower: str) -> str:
        if "-----BEGIN" in value:
            value = _BLOCK.sub(lambda m: self._name("key", m[0], m[0]), value)
        if len(value) >= SHORTEST_KEY and _shaped(value):
            value = _KEY.sub(lambda m: self._name("key", m[0], m[0]), value)
        patterns = []
        if "bearer" in lower:
            patterns.append(_BEARER)
        if "://" in value and "@" in value:
            patterns.append(_URL_PASSWORD)
        if _secret(lower):
            patterns.append(_ASSIGNED)
        for pattern in patterns:
            value = pattern.sub(lambda m: m[1] + self._name("key", m[2], m[2]), value)
        return value

    def _digits(self, value: str, lower: str) -> str:
        if _LONG_RUN.search(value) is not None:
            value = _IBAN.sub(self._iban, value)
            value = _RUN.sub(self._cards, value)
            value = _AMERICAN.sub(self._phone(10, 11), value)
            value = _NATIONAL.sub(self._phone(9, 12), value)
        if "+" in value or "00" in value:
            value = _INTERNATIONAL.sub(self._phone(8, 15), value)
        if any(map(lower.__contains__, _CALLED)):
            value = _AFTER_A_WORD.sub(
                lambda m: m[1] + self._number("phone", m[2]) if _is_phone(m[2]) else m[0], value
            )
        return _RUN.sub(self._known, value) if self._numbers else value

    def _iban(self, match: re.Match[str]) -> str:
        length = _IBAN_LENGTH.get(match[0][:2].upper())
        ends = [i for i, letter in enumerate(match[0], 1) if letter.isalnum()]
        if length is None or len(ends) < length:
            return match[0]
        found = match[0][: ends[length - 1]]
        rest = match[0][len(found) :]
        bare = re.sub(r"[^A-Za-z0-9]", "", found).upper()
        if (
            rest[:1].isalnum()
            or int("".join(str(int(c, 36)) for c in bare[4:] + bare[:4])) % 97 != 1
        ):
            return match[0]
        return self._name("iban", bare, found) + rest

    def _cards(self, match: re.Match[str]) -> str:
        run, before = match[0], match.string[match.start() - 1 : match.start()]
        groups = list(re.finditer(r"\d+", run))
        if before.isalnum() or sum(len(group[0]) for group in groups) < 14:
            return run
        pieces, kept, first = [], 0, 0
        while first < len(groups):
            last = _card(run, groups, first)
            if last is not None:
                start, end = groups[first].start(), groups[last].end()
                pieces += [run[kept:start], self._number("card", run[start:end])]
                kept, first = end, last
            first += 1
        return "".join([*pieces, run[kept:]])

    def _phone(self, least: int, most: int) -> Callable[[re.Match[str]], str]:
        def replaced(match: re.Match[str]) -> str:
            digits = sum(letter.isdigit() for letter in match[0])
            if not least <= digits <= most or _DATE.search(match[0]):
                return match[0]
            return self._number("phone", match[0])

        return replaced

    def _known(self, match: re.Match[str]) -> str:
        if match.string[match.start() - 1 : match.start()].isalnum():
            return match[0]
        name = self._recognise(re.sub(r"\D", "", match[0]))
        return match[0] if name is None else name

    def _number(self, kind: str, value: str) -> str:
        digits = re.sub(r"\D", "", value)
        name = self._recognise(digits)
        if name is None:
            name = self._numbers[digits] = self._name(kind, digits, value)
        return name

    def _recognise(self, digits: str) -> str | None:
        # With and without the country's code or the leading 0 it is one number.
        bare = digits.lstrip("0")
        for known, name in self._numbers.items():
            other = known.lstrip("0")
            short, long = sorted((bare, other), key=len)
            if short == long or (
                len(short) >= 9 and len(long) - len(short) <= 3 and long.endswith(short)
            ):
                return name
        return None

    def _name(self, kind: str, value: str, written: str) -> str:
        if _PLACEHOLDER.fullmatch(written):
            return written
        key = (kind, value)
        while key not in self._names:
            self._count[kind] = self._count.get(kind, 0) + 1
            name = f"<{kind}_{self._count[kind]}>"
            if name not in self._taken:
                self._names[key] = name
        return self._names[key]


def _shaped(text: str) -> bool:
    """Whether a key may stand in the text that is known by its shape."""
    return (
        any(map(text.__contains__, _SHAPED))
        or ("_" in text and any(map(text.__contains__, _SHAPED_)))
        or ("-" in text and any(map(text.__contains__, _SHAPED_DASH)))
    )


def _secret(lower: str) -> bool:
    """Whether the text may name a secret."""
    among = lower.__contains__
    return any(map(among, _SECRET_TOO)) and any(map(among, _SECRET))


def _has_run(text: str) -> bool:
    """Whether something in the text is written as numbers are."""
    # Seven of a run's characters one after another are found ten times as fast as a run, and no
    # run begins before them.
    near = text.encode("latin-1", "replace").translate(_OF_A_RUN).find(b"1111111")
    return near >= 0 and _RUN.search(text, near) is not None


def _gather(value: Any, texts: list[str]) -> None:
    """Adds all that is read of plain JSON values, names too, to the texts."""
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, int | float):
        if abs(value) >= 1_000_000:
            texts.append(str(value))
    elif isinstance(value, list | tuple):
        for entry in value:
            _gather(entry, texts)
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            if name not in _OURS:
                texts.append(str(name))
            _gather(entry, texts)


def _suspect(text: str) -> bool:
    """Whether anything may be found in the text, or in one that it is joined of."""
    lower = text.lower()
    return (
        "@" in text
        or "-----BEGIN" in text
        or "bearer" in lower
        or _shaped(text)
        or _secret(lower)
        or _has_run(text)
        or redacted(text)
    )


def _is_phone(value: str) -> bool:
    digits = sum(letter.isdigit() for letter in value)
    written = re.fullmatch(r"\+?[\d ().\-/\u00a0\u2011\u2013]+", value)
    return bool(written) and 7 <= digits <= 15 and not _DATE.search(value)


def _card(run: str, groups: list[re.Match[str]], first: int) -> int | None:
    """The last of the groups of digits that make a card's number from the `first` on."""
    bare = ""
    for last in range(first, len(groups)):
        if last > first and run[groups[last - 1].end() : groups[last].start()] not in (" ", "-"):
            return None
        bare += groups[last][0]
        if len(bare) > 19:
            return None
        if len(bare) >= 14 and _is_card(bare):
            return last
    return None


def _is_card(digits: str) -> bool:
    """Whether a payment network gives out such numbers (ISO/IEC 7812) and Luhn's sum is right."""
    length, six = len(digits), int(digits[:6])
    known = (
        (length in (16, 19) and digits[0] == "4")
        or (length == 16 and (51 <= six // 10_000 <= 55 or 222_100 <= six <= 272_099))
        or (length == 15 and six // 10_000 in (34, 37))
        or (length == 14 and six // 10_000 in (30, 36, 38, 39))
        or (length == 16 and 3528 <= six // 100 <= 3589)
        or (
            16 <= length <= 19
            and (six // 10_000 in (62, 65) or six // 100 == 6011 or 644 <= six // 1000 <= 649)
        )
    )
    if not known:
        return False
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0


_tools: dict[int, tuple[ToolSpec, ToolSpec]] = {}


def _tool(tool: ToolSpec) -> ToolSpec:
    # The tools' texts are their maker's, offered to every caller: an address in them is an
    # example. Only keys go. The same few objects come with every request, so each is read once.
    known = _tools.get(id(tool))
    if known is not None and known[0] is tool:
        return known[1]
    redaction = Redaction()
    written = json.dumps([tool.description, tool.parameters], ensure_ascii=False, default=str)
    found = redaction._keys(written, written.lower())
    clean = tool
    if found != written:
        try:
            description, parameters = json.loads(found)
        except ValueError:
            description, parameters = found, {}
        clean = replace(tool, description=description, parameters=parameters)
    if len(_tools) >= 4096:
        _tools.clear()
    _tools[id(tool)] = (tool, clean)
    return clean


def _same(new: Any, old: Any) -> bool:
    return new is old or (len(new) == len(old) and all(map(is_, new, old)))
