"""What answers look like, as JSON Schema; where more may come, more is allowed."""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TIME: Schema = {"type": "integer", "description": "Unix time, seconds."}
FLAG: Schema = {"type": "boolean"}
ANY: Schema = {}


def maybe(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def one_of(*words: str) -> Schema:
    """One of the words."""
    return {"type": "string", "enum": list(words)}


def many(schema: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": schema}


def thing(**fields: Schema) -> Schema:
    """An object with all of these fields, and perhaps others."""
    return {"type": "object", "properties": fields, "required": list(fields)}


def page(schema: Schema) -> Schema:
    """A page of a list."""
    return thing(
        object=one_of("list"),
        data=many(schema),
        first_id=maybe(TEXT),
        last_id=maybe(TEXT),
        has_more=FLAG,
    )


def deleted(kind: str) -> Schema:
    """What is said of something that was deleted."""
    return thing(id=TEXT, object=one_of(kind), deleted={"const": True})


ERROR = thing(error=thing(message=TEXT, type=TEXT, param=maybe(TEXT), code=maybe(TEXT)))
EVENT = thing(data=TEXT)
HEALTH = thing(object=one_of("health.response"), message=TEXT, status=TEXT)
VERSION = thing(release=TEXT, api=TEXT)
METADATA = thing(
    version=TEXT,
    repository_override=TEXT,
    assetInfo=many(ANY),
    modelInfo=many(thing(modelUrl=TEXT, shortName=TEXT)),
    licenseInfo=thing(name=TEXT, type=TEXT, url=TEXT),
)
MODEL = thing(id=TEXT, object=one_of("model"), created=TIME, owned_by=TEXT)
MODELS = thing(object=one_of("list"), data=many(MODEL))

_CHAT_USAGE = thing(prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT)
CHAT = thing(
    id=TEXT,
    object=one_of("chat.completion"),
    created=TIME,
    model=TEXT,
    choices=many(
        thing(
            index=COUNT,
            message=thing(role=one_of("assistant"), content=maybe(TEXT)),
            finish_reason=one_of("stop", "length", "tool_calls", "content_filter"),
        )
    ),
    usage=_CHAT_USAGE,
)
COMPLETION = thing(
    id=TEXT,
    object=one_of("text_completion"),
    created=TIME,
    model=TEXT,
    choices=many(
        thing(index=COUNT, text=TEXT, finish_reason=one_of("stop", "length", "content_filter"))
    ),
    usage=_CHAT_USAGE,
)
EMBEDDINGS = thing(
    object=one_of("list"),
    data=many(
        thing(
            object=one_of("embedding"),
            index=COUNT,
            embedding={"anyOf": [many({"type": "number"}), TEXT]},
        )
    ),
    model=TEXT,
    usage=thing(prompt_tokens=COUNT, total_tokens=COUNT),
)

_MESSAGE = thing(
    id=TEXT,
    type=one_of("message"),
    role=one_of("assistant", "user", "system", "developer"),
    status=one_of("in_progress", "completed", "incomplete"),
    content=many(thing(type=one_of("input_text", "output_text"), text=TEXT)),
)
_FUNCTION_CALL = thing(
    id=TEXT, type=one_of("function_call"), call_id=TEXT, name=TEXT, arguments=TEXT
)
_OTHER_ITEM = thing(id=TEXT, type=one_of("function_call_output", "reasoning"))
ITEM: Schema = {"anyOf": [_MESSAGE, _FUNCTION_CALL, _OTHER_ITEM]}
RESPONSE = thing(
    id=TEXT,
    object=one_of("response"),
    created_at=TIME,
    status=one_of("in_progress", "completed", "failed", "incomplete", "cancelled"),
    error=maybe(thing(code=TEXT, message=TEXT)),
    incomplete_details=maybe(thing(reason=TEXT)),
    instructions=maybe(TEXT),
    metadata={"type": "object", "additionalProperties": TEXT},
    model=TEXT,
    output=many({"anyOf": [_MESSAGE, _FUNCTION_CALL]}),
    parallel_tool_calls=FLAG,
    previous_response_id=maybe(TEXT),
    tool_choice=ANY,
    tools=many({"type": "object"}),
    usage=maybe(thing(input_tokens=COUNT, output_tokens=COUNT, total_tokens=COUNT)),
)

FILE = thing(
    id=TEXT, object=one_of("file"), bytes=COUNT, created_at=TIME, filename=TEXT, purpose=TEXT
)
JOB = thing(
    id=TEXT,
    object=one_of("fine_tuning.job"),
    created_at=TIME,
    model=TEXT,
    fine_tuned_model=maybe(TEXT),
    organization_id=TEXT,
    status=one_of(
        "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
    ),
    error=maybe({"type": "object"}),
    training_file=TEXT,
    validation_file=maybe(TEXT),
    hyperparameters={"type": "object"},
    seed=COUNT,
    trained_tokens=maybe(COUNT),
    result_files=many(TEXT),
)
JOB_EVENT = thing(
    id=TEXT,
    object=one_of("fine_tuning.job.event"),
    created_at=TIME,
    level=TEXT,
    message=TEXT,
    type=one_of("message", "metrics"),
    data={"type": "object"},
)
CHECKPOINT = thing(
    id=TEXT,
    object=one_of("fine_tuning.job.checkpoint"),
    created_at=TIME,
    fine_tuning_job_id=TEXT,
    fine_tuned_model_checkpoint=TEXT,
    step_number=COUNT,
    metrics={"type": "object"},
)
RUN = thing(
    id=TEXT,
    object=one_of("run"),
    agent=TEXT,
    status=one_of("running", "waiting", "done", "failed", "cancelled"),
    questions=many(thing(path=TEXT, text=TEXT, choices=many(TEXT))),
    answer=maybe(TEXT),
    error=maybe(TEXT),
    created_at=TIME,
    updated_at=TIME,
)
RUNS = thing(object=one_of("list"), data=many(RUN))
FEEDBACK = thing(object=one_of("trace.feedback"), trace=TEXT, verdict=one_of("good", "bad"))
CUSTOMIZATION_STATUS = thing(
    created_at=TEXT,
    updated_at=TEXT,
    status=TEXT,
    steps_completed=COUNT,
    percentage_done={"type": "number", "minimum": 0, "maximum": 100},
    metrics=thing(keys=many(TEXT), metrics={"type": "object"}),
    status_logs=many(thing(updated_at=TEXT, message=TEXT)),
)
CUSTOMIZATION = thing(
    id=TEXT,
    created_at=TEXT,
    updated_at=TEXT,
    config=TEXT,
    dataset=thing(name=TEXT, namespace=TEXT),
    output_model=TEXT,
    hyperparameters={"type": "object"},
    spec={"type": "object"},
    status=TEXT,
    status_details=CUSTOMIZATION_STATUS,
)
CUSTOMIZATIONS = thing(
    object=one_of("list"),
    data=many(CUSTOMIZATION),
    pagination=thing(page=COUNT, page_size=COUNT, total_pages=COUNT, total_results=COUNT),
)
