"""Traces as OpenTelemetry's programs send and take them (OTLP).

observed       what OTLP says of a span, whatever its bytes
protobuf       those bytes as protobuf
plain          those bytes as JSON

read           spans of others to ours: each dialect adds what it understands
current        the GenAI conventions as they are: `gen_ai.input.messages`
older          as they were, with Traceloop's and LangSmith's: `gen_ai.prompt.0.content`
langchain      objects of LangChain in those
openinference  Phoenix's: `llm.input_messages.0.message.content`
understood     what they all add to
parts          messages in the conventions' JSON, both ways

write          our traces to spans for others
send           those to a collector, in the background (`target`: where that is)

Names that we write ourselves stand in `records.genai`; what only others write, in its dialect.
"""
