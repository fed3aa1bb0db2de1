"""How a part is found by the name in a configuration: a file of this package, an entry point, or ``module:attribute``.

A part is a method, task, input device, camera or arm. Inside this package its name is the name of a file. Outside, an
installed distribution declares an entry point in the group ``inril.KIND``, or the configuration names
``some_module:attribute`` of anything that can be imported. All three give the same object, checked the same way.
docs/extending.md shows one of each.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from inril_core.errors import ConfigError


@dataclass(frozen=True)
class Kind:
    """One kind of part."""

    name: str
    """E.g. ``rl``; the entry points' group is ``inril.<name>``."""
    package: str
    """Whose files are the parts that come with inril; ``base`` and sub-packages are none."""
    attribute: str
    """What each of these files defines, e.g. ``Config``."""
    base: type | None = None
    """Class that an outside part must be a subclass of; None: the caller checks it."""

    @property
    def group(self) -> str:
        """Group of entry points."""
        return f"inril.{self.name}"

    def known(self) -> list[str]:
        """Names that a configuration may give, besides ``module:attribute``."""
        return sorted({*self._inside(), *self._declared()})

    def find(self, name: object, setting: str = "") -> Any:
        """The part called ``name``.

        Args:
            name: file, entry point, or ``module:attribute``.
            setting: what the configuration calls it, for messages, e.g. ``rl.method``.

        Raises:
            ConfigError: there is no such part, it cannot be imported, or it is not of this kind.
        """
        where = f"{setting or self.name} = {name!r}"
        if not isinstance(name, str):
            raise ConfigError(f"{where}: must be a name; known: {', '.join(self.known())}")
        if name in self._inside():
            return getattr(importlib.import_module(f"{self.package}.{name}"), self.attribute)
        declared = self._declared()
        if name in declared:
            return self._checked(where, declared[name])
        module, colon, attribute = name.partition(":")
        if colon and module and attribute:
            return self._checked(where, EntryPoint(name, name, self.group))
        known = self.known()
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(
            f"{where}: {hint}must be one of {', '.join(known)}, or MODULE:ATTRIBUTE of a part of your own"
        )

    def _inside(self) -> list[str]:
        package = importlib.import_module(self.package)
        return [m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "base" and not m.ispkg]

    def _declared(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _checked(self, where: str, point: EntryPoint) -> Any:
        try:
            part = point.load()
        except Exception as error:  # code of somebody else: whatever it raises, the setting is to be named
            raise ConfigError(
                f"{where}: {point.value} cannot be imported ({type(error).__name__}: {error}); is its package "
                "installed in inril's environment?"
            ) from error
        if self.base is not None and not (isinstance(part, type) and issubclass(part, self.base)):
            raise ConfigError(
                f"{where}: {point.value} must be a subclass of {self.base.__module__}.{self.base.__name__}"
            )
        missing = sorted(getattr(part, "__abstractmethods__", ()))
        if missing:
            assert self.base is not None
            raise ConfigError(
                f"{where}: {part.__name__} does not define {', '.join(missing)}; {self.base.__module__} says what it "
                "must do"
            )
        return part


def check_made(made: object, base: type, where: str) -> None:
    """Refuse what a part of somebody else has made, where it is of another class than its contract says.

    Args:
        where: setting and value, for messages, e.g. ``arm = 'my_lab:Config'``.

    Raises:
        ConfigError: ``made`` is no ``base``.
    """
    if not isinstance(made, base):
        raise ConfigError(
            f"{where}: it builds a {type(made).__name__}, which is no {base.__name__}; {base.__module__} says what it "
            "must be"
        )
