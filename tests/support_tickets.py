"""Support tickets with one of four labels, made up word by word: traffic that is not BFCL.

The same count always makes the same tickets. A ticket is a greeting, what happened, what it is
about and a wish, each in several wordings, so that few of them are alike.

    python tests/support_tickets.py OUT.jsonl
"""

import itertools
import json
import random
import sys
from pathlib import Path

SYSTEM = "Sort the ticket: billing, shipping, account or defect."
LABELS = ("billing", "shipping", "account", "defect")

_GREETINGS = (
    "", "Hello,", "Good morning,", "Hi team,", "To whom it may concern:", "Hey,", "Dear support,",
    "Sorry to bother you again.", "Quick question.", "Second attempt to reach you:",
)  # fmt: skip
_EVENTS = {
    "billing": (
        "I was charged twice for {thing}", "the invoice for {thing} shows the wrong VAT number",
        "my refund for {thing} has still not arrived on my bank statement",
        "you took {price} from my card though {thing} was on sale",
        "the discount code was accepted but {thing} cost the full {price}",
        "please send me a receipt over {price} for {thing}",
        "why is there a fee of {price} on top of {thing}?",
        "the direct debit for {thing} bounced and now I owe {price}",
        "our accountant needs the payment for {thing} split into two invoices",
        "I paid {price} in advance, yet I got a reminder for {thing}",
    ),
    "shipping": (
        "{thing} was sent to my old street", "the parcel with {thing} is stuck at customs",
        "tracking says that {thing} was handed over, but nobody rang",
        "half of the delivery is missing, only {thing} came",
        "can {thing} be dropped at my neighbour's on {day}?",
        "{thing} has been on its way since {day}", "the courier left {thing} in the rain",
        "I need {thing} before {day}, is express possible?",
        "which carrier brings {thing} to an island?",
        "the box was open when {thing} reached me on {day}",
    ),
    "account": (
        "I cannot log in any more since {day}", "the reset mail for my password never comes",
        "please change the name on my profile, I married on {day}",
        "somebody else seems to use my login from {place}",
        "I want to delete everything that you store of me",
        "the second factor is on a phone that I lost in {place}",
        "how do I merge the two profiles that I made in {place}?",
        "my newsletter settings are forgotten every {day}",
        "the site says that my user is locked after a trip to {place}",
        "how can a colleague in {place} get access to our orders?",
    ),
    "defect": (
        "{thing} makes a grinding noise", "{thing} does not turn on since {day}",
        "a screw fell out of {thing}", "the battery of {thing} is empty after an hour",
        "{thing} smells of burnt plastic", "the display of {thing} flickers",
        "there is a crack in {thing} after {day}", "{thing} leaks water on the floor",
        "a button of {thing} is jammed", "{thing} overheats and shuts down every {day}",
    ),
}  # fmt: skip
_THINGS = (
    "the coffee grinder", "my new headphones", "a garden hose", "the blue desk lamp",
    "our label printer", "a pair of hiking boots", "the baby monitor", "my e-reader",
    "the folding bike", "an espresso machine", "the kettle", "two office chairs",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "last week", "the holidays", "Friday", "yesterday", "the update")
_PLACES = ("Lisbon", "Oslo", "Graz", "Leeds", "Turin", "Ghent", "Aarhus")
_WISHES = (
    "", "What can I do?", "Please call me back.", "Can you fix this?", "I expect an answer soon.",
    "Thanks in advance.", "Is that normal?", "My reference is {number}.", "This is urgent.",
    "I would rather have it solved without the phone.", "Let me know what you need from me.",
)  # fmt: skip


def tickets(count: int = 200) -> list[dict[str, object]]:
    """Lines of the fine-tuning form; the labels take turns."""
    chosen = random.Random(20261124)
    lines: list[dict[str, object]] = []
    seen: set[str] = set()
    for label in itertools.cycle(LABELS):
        if len(lines) == count:
            return lines
        text = _ticket(label, chosen)
        while text in seen:
            text = _ticket(label, chosen)
        seen.add(text)
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": text},
            {"role": "assistant", "content": label},
        ]
        lines.append({"messages": messages})
    raise AssertionError("the labels never end")


def write(file: Path, count: int = 200) -> Path:
    """The tickets as JSONL."""
    lines = "".join(f"{json.dumps(line)}\n" for line in tickets(count))
    file.write_text(lines, encoding="utf-8")
    return file


def _ticket(label: str, chosen: random.Random) -> str:
    parts = (chosen.choice(_GREETINGS), chosen.choice(_EVENTS[label]), chosen.choice(_WISHES))
    text = " ".join(part for part in parts if part).format(
        thing=chosen.choice(_THINGS),
        price=f"€{chosen.randint(5, 400)}.{chosen.randint(10, 99)}",
        day=chosen.choice(_DAYS),
        place=chosen.choice(_PLACES),
        number=chosen.randint(1000, 9999),
    )
    return text[0].upper() + text[1:]


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
