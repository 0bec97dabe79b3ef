"""Our questions and rewards in others' trainers and harnesses, and their runs as ours.

What an adapter stands on is imported when it is used.
"""

from anatomy_r1.integrations.importing import Imported, import_run
from anatomy_r1.integrations.inspect_task import inspect_judge, inspect_sample, inspect_task
from anatomy_r1.integrations.trl import TRLSource

__all__ = ["Imported", "TRLSource", "import_run", "inspect_judge", "inspect_sample", "inspect_task"]
