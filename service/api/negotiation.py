"""Which form rows come in, and which their answers shall have."""

from collections.abc import Mapping
from typing import Literal

from service.api.body import media_type_of

TableForm = Literal["csv", "ndjson"]
Form = TableForm | Literal["json"]

# The names under which people send tables; the first of each form is the registered one.
TABLE_TYPES: Mapping[str, TableForm] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/x-csv": "csv",
    "text/tab-separated-values": "csv",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
    "application/jsonlines": "ndjson",
}
# Browsers send about ten.
_MOST_OFFERS = 50
_ANSWER_TYPES: Mapping[str, Form] = {**TABLE_TYPES, "application/json": "json"}


def charset_of(content_type: str) -> str | None:
    """The encoding that a Content-Type names."""
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"') or None
    return None


def answer_form(accept: str, given: Form) -> Form:
    """The form that an Accept header likes best; that of the rows where it likes none of ours."""
    best, liking = given, 0.0
    for offer in accept.split(",", _MOST_OFFERS)[:_MOST_OFFERS]:
        weight = _weight(offer)
        form = _ANSWER_TYPES.get(media_type_of(offer), given)
        if media_type_of(offer) in (*_ANSWER_TYPES, "*/*") and weight > liking:
            best, liking = form, weight
    return best


def _weight(offer: str) -> float:
    for parameter in offer.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
