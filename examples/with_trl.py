"""TRL's GRPOTrainer with our questions, curriculum, augmentation and reward: python examples/with_trl.py 100."""

import sys

from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig, GRPOTrainer

from anatomy_r1.agents import TINY_FOLDER
from anatomy_r1.integrations import TRLSource

source = TRLSource(bank="scenes", curriculum="asc", augmentation="gdqa", group_size=8)
config = GRPOConfig(
    output_dir="runs/with-trl",
    max_steps=int(sys.argv[1]),
    per_device_train_batch_size=16,
    num_generations=8,  # as group_size
    max_completion_length=24,
    learning_rate=3e-4,
    logging_steps=1,
    bf16=False,  # True on a GPU
    report_to="none",
)
trainer = GRPOTrainer(
    model=AutoModelForImageTextToText.from_pretrained(TINY_FOLDER, dtype="float32"),  # or yours
    processing_class=AutoProcessor.from_pretrained(TINY_FOLDER),
    args=config,
    train_dataset=source.dataset,
    reward_funcs=source.reward,
)
trainer.train()
