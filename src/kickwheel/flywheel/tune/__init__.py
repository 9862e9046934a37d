"""A dataset becomes an adapter.

lora         the training run: starts, stops, goes on after a kill
form         what the specialist's prompt holds: as told, or as validation likes best
options      how a run is set, and what it tells while it runs
base         the model that is tuned: GGUF or safetensors, as transformers has it
examples     examples as tokens: what the prompt holds, what is learned
learner      the model with its adapter while it learns
linear       the adapted projection, and the precision that this processor is fast in
checkpoint   the state of a run, from which it goes on to the same bits
export       the adapter's files: PEFT's and llama.cpp's
check        the exported adapter answers as the tuned model does

torch, transformers and peft are imported where they are used.
"""

from kickwheel.flywheel.tune.check import ExportMismatch, check_export
from kickwheel.flywheel.tune.export import SERVED
from kickwheel.flywheel.tune.lora import lora
from kickwheel.flywheel.tune.options import Options, Progress

__all__ = ["SERVED", "ExportMismatch", "Options", "Progress", "check_export", "lora"]
