"""OpenTelemetry's GenAI attribute names as we write them (semantic-conventions-genai v0.1.0).

They are all still «Development», so each name stands here and nowhere else.
"""

AGENT_NAME = "gen_ai.agent.name"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
COST_USD = "kickwheel.cost_usd"
ERROR_TYPE = "error.type"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
MAX_TOKENS = "gen_ai.request.max_tokens"
OPERATION = "gen_ai.operation.name"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
SEED = "gen_ai.request.seed"
TEMPERATURE = "gen_ai.request.temperature"
TIME_TO_FIRST_CHUNK_S = "gen_ai.response.time_to_first_chunk"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_NAME = "gen_ai.tool.name"
USAGE_ESTIMATED = "kickwheel.usage_estimated"
