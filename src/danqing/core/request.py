"""The base class of validated requests, and one-line messages for their validation errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from danqing.core.errors import BadBrief, shorten, unknown


class FrozenModel(BaseModel):
    """The base of requests and of their field groups. It is frozen and refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    PATTERNS: ClassVar[Mapping[str, str]] = {}
    """Field with a regex -> a text for messages that tells what is allowed."""

    @classmethod
    def of_values(cls, **fields: object) -> Self:
        """A request from unvalidated values, with a one-line error instead of pydantic's report.

        Raises:
            BadBrief: a value is wrong; the message names the field, the value and what is allowed.
        """
        return cls.of_mapping(fields)

    @classmethod
    def of_mapping(cls, fields: Mapping[str, object], context: Mapping[str, object] | None = None) -> Self:
        """As `of_values`.

        context: pydantic's validation context, such as the look-up of pictures by name.
        """
        try:
            return cls.model_validate(dict(fields), context=dict(context or {}))
        except ValidationError as error:
            field = next((str(part) for part in error.errors()[0]["loc"]), None)
            raise BadBrief(_first_line(error, cls), field) from None


_BOUNDS = (
    "greater_than",
    "greater_than_equal",
    "less_than_equal",
    "finite_number",
)  # what is out of them is a number
_FIXES = {  # pydantic's kind of error -> what to say after "field value"
    "greater_than": "is too small: use more than {gt:g}",
    "greater_than_equal": "is too small: use {ge} or more",
    "less_than_equal": "is too large: use {le} or less",
    "int_parsing": "is not a whole number",
    "int_from_float": "is not a whole number",
    "int_parsing_size": "is too large",
    "int_type": "is not a whole number",
    "float_parsing": "is not a number",
    "float_type": "is not a number",
    "finite_number": "is not a finite number",
    "bool_parsing": "is not true or false",
    "string_type": "is not text",
    "string_unicode": "is not valid text (UTF-8)",
    "string_too_long": "is too long: use {max_length} characters or fewer",
    "string_too_short": "is empty",
    "too_long": "are too many: use {max_length} or fewer",
    "too_short": "are too few: use {min_length} or more",
}


def _first_line(error: ValidationError, form: type[FrozenModel]) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    text = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return unknown("field", field, form.model_fields)
    if not field:
        return text
    value = shorten(str(first["input"]) if first["type"] in _BOUNDS else repr(first["input"]))
    if first["type"] == "string_pattern_mismatch":
        return f"{field} {value} is not one of: {form.PATTERNS[field]}"
    if first["type"] in _FIXES:
        hint = ", or leave it out for a random one" if field == "seed" else ""
        return f"{field} {value} {_FIXES[first['type']].format(**first.get('ctx', {}))}{hint}"
    return f"{field} {value}: {text[:1].lower()}{text[1:]}"
