"""Traces → Dataset: examples worth learning, in three parts that share no question.

curate      the steps, in their order
extract     what a trace has to teach
normalise   one way of writing what means the same
kind        whether answers are calls, JSON, labels or text
valid       calls that fit the tools that were offered
frame       what stands around many questions and belongs to none
likeness    how alike two texts are, and which of many is the most alike
pairs       which pairs of many are alike
duplicates  one of each question
cluster     examples of one template
split       train, validation, test
clean       the proof that no test question was seen
artifact    the dataset as files, and back

Pure and deterministic: the same traces in any order make the same bytes.
"""

from kickwheel.flywheel.curate.artifact import load, save
from kickwheel.flywheel.curate.curate import Options, curate

__all__ = ["Options", "curate", "load", "save"]
