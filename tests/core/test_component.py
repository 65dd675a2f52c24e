"""What of a component's settings is in content keys, and what a class lacks of a contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import pytest
from pydantic import ValidationError

from collapse_sim.core.component import Component, is_plugin, missing_members
from collapse_sim.families.vae import VAE

NAME = f"{__name__}:"


class Plain(Component):
    size: int = 3
    path: str = "here"
    rate: float = 0.5

    not_in_key: ClassVar[tuple[str, ...]] = ("path",)


class Later(Plain):
    """A version with a setting more."""

    extra: int = 0

    version: ClassVar[int] = 2
    added: ClassVar[Mapping[str, Any]] = {"extra": 0}


def test_a_key_has_every_setting_but_those_that_no_number_depends_on() -> None:
    assert Plain().describe() == {"use": f"{NAME}Plain", "version": 1, "size": 3, "rate": 0.5}
    assert Plain(path="elsewhere").describe() == Plain().describe()
    assert Plain(size=4).describe() != Plain().describe()


def test_a_setting_that_came_later_is_in_the_key_where_it_has_an_effect_and_so_in_subclasses() -> None:
    class Below(Later):
        pass

    assert Later().describe() == {"use": f"{NAME}Later", "version": 2, "size": 3, "rate": 0.5}
    assert Later(extra=1).describe()["extra"] == 1
    assert "path" not in Below().describe()
    assert "extra" not in Below().describe()
    assert Below(extra=2).describe()["extra"] == 2


def test_components_cannot_be_changed_and_know_their_settings() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Plain().size = 4  # type: ignore[misc]
    with pytest.raises(ValidationError, match="siez"):
        Plain(siez=4)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        Plain(size="many")
    assert hash(Plain()) == hash(Plain(size=3))


class Base(Protocol):
    kinds: ClassVar[tuple[str, ...]]

    def check(self) -> None: ...


class Contract(Base, Protocol):
    rate: float

    def score(self) -> float: ...

    def _private(self) -> None: ...


def test_members_that_a_class_lacks() -> None:
    assert missing_members(Plain, Contract) == ["check", "kinds", "score"]  # `rate` is a field

    class Half(Plain):
        kinds: ClassVar[tuple[str, ...]] = ()

        def check(self) -> None:
            raise AssertionError("nothing is called")

    assert missing_members(Half, Contract) == ["score"]
    assert missing_members(Half, Base) == []


def test_plug_ins_are_classes_from_elsewhere() -> None:
    assert is_plugin(Plain)
    assert not is_plugin(VAE)
    assert not is_plugin(Component)
