"""A request as spans: watched while it runs, kept, and read again.

record         spans around what runs, written in batches by one thread
store          traces and what people said of them, in the store's database
gathered       what is known of a trace whose spans come in pieces (`pieces`: their rows)
forget         old traces deleted
otlp           traces as OpenTelemetry's programs send and take them
chatlog        other people's traffic as traces, in any of the forms of `forms`
openinference  what a span says in OpenInference's terms
jsonl          lines of JSON

A trace knows neither models nor agents: they open spans, and it keeps what they put in.
"""
