"""Forms that other people's traffic comes in.

chat           OpenAI's chats, the fine-tuning form, Data Flywheel Blueprint records
tensorzero     TensorZero's tables: inferences and feedback
langfuse       Langfuse's exports: traces, observations, scores
phoenix        Phoenix's exports: spans and annotations
opentelemetry  spans in OpenInference's or the GenAI conventions' terms
atif           trajectories in Harbor's interchange format

rows    a file's entries, whatever holds them
form    what a form has to say of an entry
gather  from entries to traces
loose   messages, however they are written

New form: one file here, one entry in `trace.chatlog.FORMS`, one golden file in tests/trace/forms/.
"""
