"""How the kits of `zeroshot.testing` are tested: plugins that break just one promise.

A plugin counts only if its check is the first of the kit to fail: so each check catches
something that those before it let through.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from zeroshot.errors import PluginContractError


@dataclass(frozen=True)
class Kit:
    """A kit, and for each of its checks plugins that it must catch."""

    run: Callable[..., None]
    checks: tuple[Callable[[Any], None], ...]
    broken: list[tuple[str, Any]]
    words: dict[str, list[str]] = field(default_factory=dict)

    def cases(self):
        return [
            pytest.param(check, plugin, id=f"{check}-{type(plugin).__name__}-{i}")
            for i, (check, plugin) in enumerate(self.broken)
        ]

    def must_catch(self, check, plugin):
        with pytest.raises(PluginContractError) as caught:
            self.run(plugin, **self.words)
        message = str(caught.value)
        assert f"'{type(plugin).__name__}'" in message
        assert f" fails {check}. Expected " in message
        assert " Got " in message

    def must_have_a_plugin_for_every_check(self):
        names = [check.__name__ for check in self.checks]
        assert len(set(names)) == len(names)
        assert {check for check, _ in self.broken} == set(names)

    def must_pass(self, plugin):
        self.run(plugin, **self.words)
        assert isinstance(self.checks, tuple)
        for check in self.checks:
            check(plugin)
