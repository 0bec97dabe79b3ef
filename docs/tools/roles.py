"""Docstrings refer to other names by roles (``:func:`score```); the site shows these as code."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`~?([^`]+)`")


class Roles(griffe.Extension):
    """Turn roles into code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Read the docstring of anything that has one."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value)
