"""Anatomical visual question answering as a Gymnasium environment, and a GRPO agent that trains against it.

The rooms are the folders at the root of the repository, linked here so that they are imported below one name.
``docs/ARCHITECTURE.md`` shows them in the order of a question's way.
"""

from importlib.metadata import version

__version__ = version("anatomy-r1")
