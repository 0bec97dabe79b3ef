"""Settings of whole jobs: what a run's ``config.toml`` holds. Whether it is resumed, or only planned, is not one."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, Self

from anatomy_r1.agents import GRPOConfig, ModelConfig, SFTConfig, SizeDefaults, VllmSettings
from anatomy_r1.agents.configs import resolved
from anatomy_r1.core import Natural, Range, Seed, check_numbers
from anatomy_r1.workflows.config import Scalar

CONFIG = "config.toml"
"""File in a run's folder that holds its settings."""


@dataclass(frozen=True)
class HeldOut:
    """Evaluation before and after training."""

    split: str = "test"
    """Whose questions are asked."""
    limit: Natural = 400
    """Distinct questions; 0 leaves the evaluations out."""
    seed: Seed = 0
    """Seed of their draw; the same questions before and after."""
    temperature: Annotated[float, Range(0, 100)] = 0.0
    """Of the answers; 0 is greedy."""

    def __post_init__(self) -> None:
        check_numbers(self, "held-out")


@dataclass(frozen=True)
class RunConfig:
    """What every training run has."""

    policy: str = "tiny"
    """Model to train: tiny, tiny-coarse, or hf:PATH_OR_ID."""
    bank: str = "scenes"
    """Bank of questions; its train split is learnt."""
    bank_options: dict[str, Scalar] = field(default_factory=dict)
    """Options of the bank, as pairs: size 128 seed 1."""
    out: Path = Path("runs/run")
    """Folder of the run; must be new or empty."""
    seed: Seed = 0
    """Seed of questions and sampling."""
    evaluate_every: Natural = 0
    """Steps between evaluations on 200 validation questions, the best policy kept in OUT/best; 0: none."""
    evaluate_controls: Literal["blank", "both", "none"] = "blank"
    """How these evaluations ask each question once more, to see whether the policy looks: with the image blanked, with
    that and with another's image, or not."""
    tracker: str = ""
    """Where metrics go besides metrics.jsonl: tensorboard, trackio, wandb, or module:attribute."""
    wait_minutes: Annotated[float, Range(0, 525_600, above=True)] = 60.0
    """How long processes wait for each other before they give up."""
    allow_bad: bool = False
    """Leave out a question that can't be asked (a broken image, one that the model refuses), and count it; else the run
    stops there, with a checkpoint."""
    held_out: HeldOut = field(default_factory=HeldOut)
    """Evaluation before and after."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """What of the model learns, and how it is held."""

    def __post_init__(self) -> None:
        check_numbers(self, "settings")

    @property
    def steps(self) -> int:
        """Of the run."""
        raise NotImplementedError

    @property
    def length(self) -> int:
        """Tokens after which an answer is cut, once it is known."""
        raise NotImplementedError

    def sized(self, defaults: SizeDefaults) -> Self:
        """The config, with what it leaves to the model's size filled in."""
        raise NotImplementedError


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """A GRPO run."""

    out: Path = Path("runs/train")
    """Folder of the run; must be new or empty."""
    curriculum: str = "asc"
    """What is asked next: asc, uniform, or module:attribute."""
    curriculum_options: dict[str, Scalar] = field(default_factory=dict)
    """Options of the curriculum, as pairs."""
    augmentation: str = "scaffold"
    """How questions are varied within a group: scaffold (easier forms where it is lost), gdqa (the paper's), none, or
    module:attribute."""
    augmentation_options: dict[str, Scalar] = field(default_factory=dict)
    """Options of the augmentation, as pairs."""
    grpo: GRPOConfig = field(default_factory=GRPOConfig)
    """Optimisation."""
    sampler: Literal["auto", "own", "vllm"] = "auto"
    """Who samples: the trained model itself (own), or vLLM with its weights; auto: vLLM where its server is given, or
    where there is a GPU, one process, and a vLLM that starts with the model; else own."""
    vllm: VllmSettings = field(default_factory=VllmSettings)
    """How vLLM runs, where it samples."""

    @property
    def steps(self) -> int:
        """See :attr:`RunConfig.steps`."""
        return self.grpo.steps

    @property
    def length(self) -> int:
        """See :attr:`RunConfig.length`."""
        return self.grpo.length

    def sized(self, defaults: SizeDefaults) -> Self:
        """See :meth:`RunConfig.sized`."""
        return replace(self, grpo=defaults.fill(self.grpo))


@dataclass(frozen=True)
class SFTRunConfig(RunConfig):
    """A run of supervised fine-tuning."""

    out: Path = Path("runs/sft")
    """Folder of the run; must be new or empty."""
    max_completion_length: Annotated[int, Range(1, 2**20)] | None = None
    """Tokens of an answer in the evaluations; None: by the model's size, 48 for the embedded one, 256 for large."""
    sft: SFTConfig = field(default_factory=SFTConfig)
    """Optimisation."""

    @property
    def steps(self) -> int:
        """See :attr:`RunConfig.steps`."""
        return self.sft.steps

    @property
    def length(self) -> int:
        """See :attr:`RunConfig.length`."""
        return resolved(self.max_completion_length)

    def sized(self, defaults: SizeDefaults) -> Self:
        """See :meth:`RunConfig.sized`."""
        length = self.max_completion_length or defaults.completion_length
        return replace(self, sft=defaults.fill(self.sft), max_completion_length=length)


@dataclass(frozen=True)
class DemoConfig:
    """A model that takes relatives for each other, on procedural scenes of 13 structures: evaluated, trained by GRPO,
    evaluated again. docs/study.md tells what was chosen and why."""

    out: Path = Path("runs/demo")
    """Folder of the run; must be new or empty."""
    seed: Seed = 0
    """Seed of training; the held-out questions stay the same."""
    held_out: HeldOut = field(default_factory=HeldOut)
    """Evaluation before and after."""
    grpo: GRPOConfig = field(
        default_factory=lambda: GRPOConfig(steps=100, max_completion_length=24, learning_rate=6e-4)
    )
    """Optimisation."""

    def __post_init__(self) -> None:
        check_numbers(self, "demo")

    def training(self) -> TrainConfig:
        """The run that this is."""
        return TrainConfig(
            policy="tiny-coarse",
            bank="scenes-ssg",
            out=self.out,
            seed=self.seed,
            held_out=self.held_out,
            grpo=self.grpo,
        )
