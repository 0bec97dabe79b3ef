"""A bank as a task of lmms-eval, asked of the embedded model: python examples/with_lmms.py 16."""

import sys

from lmms_eval.evaluator import simple_evaluate
from lmms_eval.loggers import EvaluationTracker
from lmms_eval.tasks import TaskManager
from lmms_eval.utils import make_table

from anatomy_r1.agents import make_policy
from anatomy_r1.integrations.lmms_task import AnatomyTask, PolicyModel

task = AnatomyTask({"task": "scenes", "dataset_kwargs": {"bank": "scenes", "split": "test", "limit": int(sys.argv[1])}})
found = simple_evaluate(
    model=PolicyModel(make_policy("tiny")),  # or the name of one of lmms-eval's own
    tasks=[task],
    task_manager=TaskManager(include_defaults=False),
)
tracker, samples = EvaluationTracker(output_path="runs/with-lmms/logs"), found.pop("samples")
tracker.general_config_tracker.log_experiment_args("anatomy-r1", "model=tiny", None, None, False)
tracker.save_results_aggregated(found, samples, found["date"])
tracker.save_results_samples("scenes", samples["scenes"])
print(make_table(found))
