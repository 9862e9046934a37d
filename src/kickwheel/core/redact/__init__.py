"""Secrets and personal data out of text, once, before anything is kept, logged or shown.

    redact.text("Mail ann@example.com")  →  "Mail <email_1>"

Found are e-mail addresses, phone numbers, cards, IBANs, passwords and API keys of the common
shapes. The same value gets the same placeholder throughout one conversation, so that a call's
argument stays the one that the question named. Rules, not a model: names and addresses of people
stay.

conversation  messages, spans and traces that belong together
texts         one text, and whether a look tells that there is nothing in it
keys          passwords, tokens and API keys
numbers       phones, cards and IBANs
names         the placeholders
"""

from kickwheel.core.redact.conversation import Redaction, message, text, trace
from kickwheel.core.redact.keys import secrets, without
from kickwheel.core.redact.names import placeholders, redacted

__all__ = [
    "Redaction",
    "message",
    "placeholders",
    "redacted",
    "secrets",
    "text",
    "trace",
    "without",
]
