"""What was done already, so that work which was killed goes on where it was.

steps   of turns and other computing: by run and inputs, one at a time
runs    of agents: by their place in the run; who works on a run, and what a person is asked
writer  the rows of many runs, written together
presence  that a worker lives, and where it hears a call

Nothing else resumes work.
"""

from kickwheel.core.journal.run import KeptRun, KeptStep, Question, RunState
from kickwheel.core.journal.runs import Runs
from kickwheel.core.journal.steps import Journal

__all__ = ["Journal", "KeptRun", "KeptStep", "Question", "RunState", "Runs"]
