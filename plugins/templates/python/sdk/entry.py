"""The component's entry: the function of src/plugin.py as the contract's export."""

import os.path

import hookloom
import plugin
from wit_world import exports
from wit_world.imports import types

if not callable(getattr(plugin, "transform", None)):
    raise TypeError("src/plugin.py has no function to call: it must have `def transform(event)`")

FOLDER = os.path.dirname(plugin.__file__)


class Transform(exports.Transform):
    def transform(self, event: types.Event) -> types.Verdict:
        return hookloom.judge(plugin.transform, FOLDER, event)
