"""What the sections of a configuration are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# -0.0 is 0: equal numbers are one run
Plain = AfterValidator(lambda value: value + 0.0)
Fraction = Annotated[float, Field(ge=0, lt=1), Plain]


def about(meaning: str, unit: str = "", *, filled: bool = False) -> Any:
    """What `set-train --help` and docs/configuration.md say of a key; bounds and choices they read from its type.

    filled  whether null stands for a value that other keys decide
    """
    return Field(description=meaning, json_schema_extra={"unit": unit, "filled": filled})


class Section(BaseModel):
    """Exact types, no unknown keys, no NaN or infinity, never changed afterwards."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
