"""Adapter → Report: the specialist beside what it would replace, on questions that nobody saw.

contestants  who competes: full prompt, few-shot, specialist, incumbent
retrieve     the training examples most like a question
run          puts the questions, keeps the answers as they come, makes the Report
answered     the answers in their file
match        how good an answer is, by the kind of the right one; `call` for calls
judge        a model that judges free text, and how far it agrees with people
compare      answers to figures, alone and paired
machine      on what it was measured
page, chart  the Report for people; `table` for a terminal
"""

from kickwheel.flywheel.evaluate.contestants import (
    Asking,
    Entrant,
    few_shot,
    full_prompt,
    specialist,
    specialist_free,
)
from kickwheel.flywheel.evaluate.judge import Opinion
from kickwheel.flywheel.evaluate.run import evaluate

__all__ = [
    "Asking",
    "Entrant",
    "Opinion",
    "evaluate",
    "few_shot",
    "full_prompt",
    "specialist",
    "specialist_free",
]
