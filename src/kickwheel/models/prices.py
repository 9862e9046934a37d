"""What tokens cost."""

from pydantic import BaseModel, ConfigDict, Field

from kickwheel.models.chat import Usage


class Prices(BaseModel):
    """What tokens cost, in US dollars for a million."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    input: float = Field(ge=0)
    """Of the prompt."""
    output: float = Field(ge=0)
    """Of the answer."""
    cached: float | None = Field(default=None, ge=0)
    """Of the prompt where it was cached; by default as `input`."""
    written: float | None = Field(default=None, ge=0)
    """Of the prompt where it was written to a cache that is paid for; by default as `input`."""

    def cost_usd(self, usage: Usage) -> float:
        """What an answer cost, in dollars."""
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.written is None else self.written
        fresh = usage.prompt_tokens - usage.cached_tokens - usage.written_tokens
        total = fresh * self.input + usage.cached_tokens * cached + usage.written_tokens * written
        return (total + usage.output_tokens * self.output) / 1e6
