"""A tuning job as NeMo Customizer's clients ask for it.

Three shapes are read: Customizer's of 2025 (`config`, `dataset`, `hyperparameters`), and two with a
`spec`, of which the newer one says `schedule`, `batch`, `optimizer` and `output`. What a shape may
say and the tuning here does not do is refused by name, never passed over.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from kickwheel.serve.jobs import Hyperparameters, JobBody, Lora


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Named(_Strict):
    """Something in a namespace; here there is only one."""

    name: Annotated[str, Field(min_length=1)]
    namespace: str | None = None


def _no_dropout(dropout: float | None) -> float | None:
    if dropout:
        raise ValueError("no dropout here: leave it out, or say 0")
    return dropout


Count = Annotated[int, Field(ge=1, le=1000)]
Rank = Annotated[int, Field(ge=1, le=256)]
Alpha = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Dropout = Annotated[float, AfterValidator(_no_dropout)]
Kind = Literal["sft", "lora"]
"""`lora` is short for `sft` with `finetuning_type: lora`, here as in /v1/fine_tuning/jobs."""


class AdapterOptions(_Strict):
    """The update, as all three shapes name it."""

    type: Literal["lora"] = "lora"
    adapter_dim: Rank | None = None
    rank: Rank | None = None
    alpha: Alpha | None = None
    adapter_dropout: Dropout | None = None
    dropout: Dropout | None = None


class Parameters(_Strict):
    """Customizer's hyperparameters of 2025."""

    training_type: Kind = "sft"
    finetuning_type: Literal["lora"] = "lora"
    epochs: Count | None = None
    batch_size: Count | None = None
    learning_rate: Rate | None = None
    lora: AdapterOptions = AdapterOptions()


class Training(_Strict):
    """`spec.training`, of either year."""

    type: Kind | None = None
    training_type: Kind | None = None
    finetuning_type: Literal["lora"] | None = None
    peft: AdapterOptions | None = None
    lora: AdapterOptions | None = None
    epochs: Count | None = None
    batch_size: Count | None = None
    learning_rate: Rate | None = None

    @model_validator(mode="after")
    def _lora(self) -> "Training":
        said = (self.type, self.training_type, self.finetuning_type)
        if self.peft is None and self.lora is None and "lora" not in said:
            raise ValueError('all weights are not tuned here; say peft: {"type": "lora"}')
        return self


class Schedule(_Strict):
    """How long."""

    epochs: Count | None = None


class Batch(_Strict):
    """How many examples a step."""

    size: Count | None = None
    global_batch_size: Count | None = None


class Optimizer(_Strict):
    """How fast."""

    learning_rate: Rate | None = None


class Spec(_Strict):
    """A job as the newer shapes say it."""

    model: str
    dataset: str | Named
    training: Training
    schedule: Schedule = Schedule()
    batch: Count | Batch = Batch()
    optimizer: Optimizer = Optimizer()
    output: Named | None = None


class CustomizationBody(_Strict):
    """A job as it is asked for: `config` with what belongs to it, or `spec`."""

    config: str | Named | None = None
    dataset: str | Named | None = None
    output_model: str | None = None
    hyperparameters: Parameters = Parameters()
    spec: Spec | None = None
    name: str | None = None
    namespace: str | None = None
    project: str | None = None
    description: str | None = None

    @model_validator(mode="after")
    def _one_shape(self) -> "CustomizationBody":
        if (self.spec is None) == (self.config is None):
            raise ValueError("say either config, dataset and hyperparameters, or spec")
        if self.spec is None and self.dataset is None:
            raise ValueError("dataset: which uploaded file to learn from")
        return self

    @property
    def learned_from(self) -> str:
        """The dataset, as the shape names it."""
        dataset = self.spec.dataset if self.spec else self.dataset
        assert dataset is not None
        return _name(dataset)

    def job(self, training_file: str) -> JobBody:
        """The same as a fine-tuning job.

        Args:
            training_file: id of the dataset's file.
        """
        spec = self.spec
        if spec is None:
            assert self.config is not None
            asked, model, output = self.hyperparameters, _name(self.config), self.output_model
            lora, epochs, size = asked.lora, asked.epochs, asked.batch_size
            rate = asked.learning_rate
        else:
            model, output = spec.model, spec.output.name if spec.output else self.name
            lora = spec.training.peft or spec.training.lora or AdapterOptions()
            epochs = spec.schedule.epochs or spec.training.epochs
            size = spec.training.batch_size
            if isinstance(spec.batch, int):
                size = spec.batch
            else:
                size = spec.batch.size or spec.batch.global_batch_size or size
            rate = spec.optimizer.learning_rate or spec.training.learning_rate
        return JobBody(
            model=_base(model),
            training_file=training_file,
            suffix=_plain(output) if output else None,
            hyperparameters=Hyperparameters(
                epochs=epochs,
                batch_size=size,
                learning_rate=rate,
                lora=Lora(adapter_dim=lora.adapter_dim or lora.rank, alpha=lora.alpha),
            ),
        )


def _name(named: str | Named) -> str:
    return named if isinstance(named, str) else named.name


def _base(model: str) -> str:
    """The base that a configuration is named for: `smollm2-135m@v1.0.0+cpu` is `smollm2-135m`."""
    return model.partition("@")[0]


def _plain(output: str) -> str:
    """The suffix of a model's name that an output is named by: `default/mine@v1` is `mine`."""
    name = output.partition("@")[0].rpartition("/")[2]
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)[:64]
