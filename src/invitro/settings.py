"""Settings that check themselves: pydantic checks every field, and all problems are reported at once, in our words."""

import types
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from invitro.errors import InputError, refuse_if_any

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T")

Count = Annotated[int, Ge(1)]
Index = Annotated[int, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]
Seed = Annotated[int, Ge(0), Lt(2**32), "a whole number from 0 to 2^32 - 1"]
NotNegative = Annotated[float, Ge(0)]


def checked(where: str) -> Callable[[type[T]], type[T]]:
    """Make a dataclass check its fields against their annotations whenever an instance is created.

    Checks are strict: ``true`` is not a number and ``"4"`` is not 4, though 4 is a float. A list is accepted as a
    tuple, and a word as the member of an enumeration that it names.
    Bounds are part of the annotation, as in ``Annotated[float, Ge(0), Lt(1)]``; a string in it replaces the description
    of what is expected. A method ``contradictions`` yields one problem for each conflict between fields; it is called
    once every field is valid by itself.

    Args:
        where: the prefix of the fields' names in a configuration, such as ``fit`` for ``fit.epochs``; empty for
            settings at its top.

    Raises:
        InputError: when the class is called with a value it refuses; one line per problem.

    Example:
        >>> from dataclasses import dataclass
        >>> @checked("fit")
        ... @dataclass(frozen=True)
        ... class Small:
        ...     epochs: Count = 20
        ...     schedule: Literal["linear", "constant"] = "linear"
        >>> Small(epochs=0, schedule="cosine")
        Traceback (most recent call last):
        invitro.errors.InputError: fit.epochs: expected a whole number of at least 1, found 0
        fit.schedule: expected linear or constant, found 'cosine'
    """

    def decorate(cls: type[T]) -> type[T]:
        init: Any = cls.__init__

        def checking(self: Any, *args: Any, **kwargs: Any) -> None:
            init(self, *args, **kwargs)
            for name, value in _validated(self, where).items():
                object.__setattr__(self, name, value)
            refuse_if_any(getattr(self, "contradictions", tuple)())

        checking.__wrapped__ = init  # type: ignore[attr-defined]  # help shows its signature
        cls.__init__ = checking  # type: ignore[method-assign]
        return cls

    return decorate


def refusal(name: str, value: object, annotation: Any) -> str | None:
    """Return what is wrong with one value, checked as strictly as a field of a `checked` class, or None.

    Args:
        name: as the user writes it.
        value: any object.
        annotation: a type with its bounds, such as `Count`.

    Example:
        >>> refusal("resamples", 0, Count)
        'resamples: expected a whole number of at least 1, found 0'
    """
    from pydantic import ValidationError

    try:
        _adapter_of(annotation).validate_python(value)
    except ValidationError:
        return f"{name}: expected {expected(annotation)}, found {value!r}"
    return None


@cache
def _adapter_of(annotation: Any) -> Any:
    """Return pydantic's check of single values."""
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))


def expected(annotation: Any) -> str:
    """Say in words what an annotation accepts: ``null or a whole number of at least 1``."""
    kind, bounds = _taken_apart(annotation)
    description = next((bound for bound in bounds if isinstance(bound, str)), None)
    if description is not None:
        return description
    if get_origin(kind) is Literal:
        return _listed([str(value) for value in get_args(kind)])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _listed([str(member.value) for member in kind])
    if get_origin(kind) in (Union, types.UnionType):
        parts = [part for part in get_args(kind) if part is not type(None)]
        words = _listed([expected(part) for part in parts])
        return f"null or {words}" if len(parts) < len(get_args(kind)) else words
    if get_origin(kind) in (tuple, list, Sequence):
        return f"a list, each {expected(get_args(kind)[0])}"
    names = {bool: "true or false", str: "text", int: "a whole number", float: "a number"}
    return names.get(kind, f"a {getattr(kind, '__name__', kind)}") + _within(bounds)


def _validated(instance: Any, where: str) -> dict[str, Any]:
    """Return the values of a dataclass's fields, converted to their types."""
    from pydantic import ValidationError

    of: Any = type(instance)
    hints, model = _model_of(of)
    values = {name: getattr(instance, name) for name in hints}
    try:
        valid = model(**values)
    except ValidationError as error:
        wrong = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors(include_url=False))
        prefix = f"{where}." if where else ""
        raise InputError(
            *(f"{prefix}{name}: expected {expected(hints[name])}, found {values[name]!r}" for name in wrong)
        ) from None
    return {name: getattr(valid, name) for name in hints}


@cache
def _model_of(cls: Any) -> tuple[dict[str, Any], "type[BaseModel]"]:
    """Return the annotations of a dataclass's fields, and pydantic's model of them."""
    from pydantic import ConfigDict, Field, create_model

    annotations = get_type_hints(cls, include_extras=True)
    hints = {field.name: annotations[field.name] for field in fields(cls) if field.init}
    strict = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False, protected_namespaces=())
    # In YAML a tuple is written as a list, whose elements stay strict, and an enumeration as a word.
    kinds = {
        name: Annotated[hint, Field(strict=False)] if _is_written_otherwise(hint) else hint
        for name, hint in hints.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a field may have the name of a pydantic method
        model = create_model(cls.__name__, __config__=strict, **{name: (kind, ...) for name, kind in kinds.items()})  # type: ignore[call-overload]
    return hints, model


def _is_written_otherwise(annotation: Any) -> bool:
    """Whether YAML has no values of this type, so that they are written as another type."""
    kind, _ = _taken_apart(annotation)
    return get_origin(kind) is tuple or (isinstance(kind, type) and issubclass(kind, Enum))


def _taken_apart(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return an annotation's type and its metadata."""
    if get_origin(annotation) is Annotated:
        kind, *metadata = get_args(annotation)
        return kind, tuple(metadata)
    return annotation, ()


def _within(bounds: Sequence[object]) -> str:
    """Describe the numbers within bounds: `` from 0 to below 1``."""
    low = next((bound for bound in bounds if isinstance(bound, Ge | Gt)), None)
    high = next((bound for bound in bounds if isinstance(bound, Le | Lt)), None)
    match low, high:
        case Ge(ge=least), Le(le=most):
            return f" from {least:g} to {most:g}"
        case Ge(ge=least), Lt(lt=most):
            return f" from {least:g} to below {most:g}"
        case Gt(gt=least), Lt(lt=most):
            return f" between {least:g} and {most:g}"
        case Gt(gt=least), Le(le=most):
            return f" above {least:g} and at most {most:g}"
        case Ge(ge=least), None:
            return f" of at least {least:g}"
        case Gt(gt=least), None:
            return f" above {least:g}"
        case None, Le(le=most):
            return f" of at most {most:g}"
        case None, Lt(lt=most):
            return f" below {most:g}"
    return ""


def _listed(words: Sequence[str]) -> str:
    """Join words as in ``a, b or c``."""
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
