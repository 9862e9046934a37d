"""The proof that no test question was seen: not in training, not in prompts, not in few-shot.

Three measures: word for word, likeness of n-grams (`likeness`), and embeddings. The first two
decide; the cosine is reported, since slot twins («in Napa», «in Oakland») are close in it without
being copies.
"""

from collections.abc import Iterable, Sequence

from kickwheel.flywheel.curate.frame import Frame
from kickwheel.flywheel.curate.likeness import grams, nearest
from kickwheel.flywheel.curate.normalise import plain, question
from kickwheel.models import embedding
from kickwheel.records import Cleanliness, Example, Overlap

TELLING = 20
"""Characters of a question that can be looked for in a prompt: «thanks» stands in many."""
NO_FRAME = Frame()


def prove(
    examples: Sequence[Example],
    *,
    threshold: float,
    frame: Frame = NO_FRAME,
    prompts: Iterable[str] = (),
    few_shot: Iterable[str] = (),
) -> Cleanliness:
    """The test questions among `examples` against everything that a model may have seen.

    Args:
        threshold: n-gram likeness from which a question counts as seen.
        frame: what stands around many questions and is no part of them.
        prompts: prompts that the contestants get besides those in the examples themselves.
        few_shot: questions that are shown to a contestant besides training questions.
    """
    tested = [example for example in examples if example.split == "test"]
    others = [example for example in examples if example.split != "test"]
    asked = [frame.inside(question(example.messages)) for example in tested]
    shown = [frame.inside(plain(text)) for text in few_shot]
    known = [*(frame.inside(question(example.messages)) for example in others), *shown]
    names = [*(example.id for example in others), *["few-shot"] * len(shown)]
    systems = {
        message.content
        for example in examples
        for message in example.messages
        if message.role in ("system", "developer") and message.content
    }
    in_prompt = prompted(asked, [*prompts, *sorted(systems)], threshold)
    alike = nearest(asked, known)
    cosines = embedding.nearest(asked, known)
    words = set(known)
    overlaps = []
    exact = 0
    for i, example in enumerate(tested):
        j, value = alike[i]
        name = names[j] if j >= 0 else ""
        if in_prompt[i] > value:
            name, value = "prompt", in_prompt[i]
        exact += asked[i] in words or in_prompt[i] == 1.0
        overlaps.append(
            Overlap(
                example=example.id,
                nearest=name,
                ngram=round(value, 6),
                embedding=None if cosines is None else cosines[i],
            )
        )
    near = sum(overlap.ngram >= threshold for overlap in overlaps)
    return Cleanliness(
        tested=len(tested),
        exact=exact,
        near=near,
        threshold=threshold,
        overlaps=tuple(overlaps),
        clean=exact == 0 and near == 0,
    )


def prompted(questions: Sequence[str], prompts: Iterable[str], threshold: float) -> list[float]:
    """For each plain question which share of it a prompt shows; 1 word for word.

    0 below `threshold`, and for questions too short to tell.
    """
    texts = sorted({plain(prompt) for prompt in prompts if prompt})
    shown = [grams(text) for text in texts]
    found = []
    for asked in questions:
        best = 0.0
        if len(asked) >= TELLING:
            own = grams(asked)
            for text, tokens in zip(texts, shown, strict=True):
                share = 1.0 if asked in text else min(0.999, len(own & tokens) / len(own))
                best = max(best, share)
        found.append(best if best >= threshold else 0.0)
    return found
