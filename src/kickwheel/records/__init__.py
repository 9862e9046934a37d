"""What one step hands to the next: frozen, plain, versioned values.

message   what was said, called and offered, in OpenAI chat terms
trace     all that one request did
dataset   examples to learn from, and the proof that the test among them is unseen
adapter   LoRA weights for a named base, and how they were made
report    quality, latency and cost, with the paired comparison
snapshot  the moment to deploy

`wire` turns records to bytes and back; `openai` and `responses` turn messages to OpenAI's JSON and
back; `genai` has the names of attributes.
A record neither reads nor writes nor calls.
"""

from kickwheel.records.adapter import Adapter, CurvePoint, PromptForm
from kickwheel.records.dataset import (
    AnswerKind,
    Cleanliness,
    Dataset,
    Dropped,
    Example,
    Overlap,
    Split,
    Step,
)
from kickwheel.records.message import AcceptedCall, Image, Images, Message, Role, ToolCall, ToolSpec
from kickwheel.records.report import (
    Agreement,
    Contestant,
    Mean,
    Outcome,
    Paired,
    Question,
    Rate,
    Report,
    Verdict,
)
from kickwheel.records.snapshot import Snapshot
from kickwheel.records.trace import Feedback, Span, SpanKind, Trace

__all__ = [
    "AcceptedCall",
    "Adapter",
    "Agreement",
    "AnswerKind",
    "Cleanliness",
    "Contestant",
    "CurvePoint",
    "Dataset",
    "Dropped",
    "Example",
    "Feedback",
    "Image",
    "Images",
    "Mean",
    "Message",
    "Outcome",
    "Overlap",
    "Paired",
    "PromptForm",
    "Question",
    "Rate",
    "Report",
    "Role",
    "Snapshot",
    "Span",
    "SpanKind",
    "Split",
    "Step",
    "ToolCall",
    "ToolSpec",
    "Trace",
    "Verdict",
]
