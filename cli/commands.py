"""The subcommands: where each is, what it does, how it is called, and which settings come first in its help."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A subcommand."""

    module: str
    """Of this folder."""
    kind: str
    """Dataclass in it whose fields are the flags and whose ``run()`` does the work."""
    summary: str
    examples: tuple[str, str]
    """Two calls, without the program's name."""
    basic: tuple[str, ...] = ()
    """Flags that come first, as they are typed; none: all of them."""
    trains: bool = False
    """Whether it needs torch and transformers."""
    spreads: bool = False
    """Whether processes that a launcher started share its work; else each would do all of it, in the same folder."""
    mistake: int = 2
    """Exit code of a mistake that the user can mend; another where 2 is an answer."""


COMMANDS = {
    "demo": Command(
        "demo",
        "DemoCommand",
        "train the embedded model on procedural scenes, with a report",
        ("demo", "demo --seed 1 --out runs/demo-1"),
        ("out", "seed", "resume", "held-out.limit", "grpo.steps"),
        trains=True,
    ),
    "train": Command(
        "train",
        "TrainCommand",
        "GRPO against the environment, with evaluation before and after",
        (
            "train --policy hf:PATH_OR_ID --bank scenes --grpo.learning-rate 1e-6 --out runs/mine",
            "train --config runs/mine/config.toml --out runs/mine --resume",
        ),
        (
            *("policy", "bank", "bank-options", "curriculum", "augmentation", "out", "resume", "dry-run", "seed"),
            *("evaluate-every", "held-out.limit", "grpo.steps", "grpo.questions-per-step", "grpo.num-generations"),
            *("grpo.learning-rate", "grpo.max-completion-length", "model.lora.rank"),
        ),
        trains=True,
        spreads=True,
    ),
    "sft": Command(
        "sft",
        "SFTCommand",
        "supervised fine-tuning on a bank, with evaluation before and after",
        (
            "sft --bank scenes --sft.steps 100 --out runs/sft",
            "sft --policy hf:PATH_OR_ID --model.lora.rank 16",
        ),
        (
            *("policy", "bank", "bank-options", "out", "resume", "dry-run", "seed", "evaluate-every", "held-out.limit"),
            *("sft.steps", "sft.batch-size", "sft.learning-rate", "model.lora.rank"),
        ),
        trains=True,
        spreads=True,
    ),
    "evaluate": Command(
        "evaluate",
        "EvaluateConfig",
        "let a policy answer held-out questions",
        (
            "evaluate --policy tiny --limit 100",
            "evaluate --policy hf:runs/mine/policy --bank brain-atlas",
        ),
        ("policy", "policy-options", "bank", "bank-options", "split", "limit", "seed", "out", "resume"),
        spreads=True,
    ),
    "report": Command(
        "evaluate",
        "ReportConfig",
        "write report.html of a run or an evaluation",
        ("report runs/mine", "report runs/evaluate"),
    ),
    "figures": Command(
        "figures",
        "FiguresConfig",
        "PNG figures of training runs, with bands over seeds",
        ("figures runs/mine", "figures ASC=runs/asc-0 ASC=runs/asc-1 uniform=runs/uniform-0"),
    ),
    "compare": Command(
        "compare",
        "CompareConfig",
        "which of several evaluations is better, and on what",
        ("compare runs/a runs/b", "compare runs/a runs/b runs/c --out runs/comparison"),
    ),
    "score": Command(
        "score",
        "ScoreConfig",
        "judge saved rollouts anew, without inference",
        ("score runs/evaluate --format-weight 0", "score runs/evaluate --judge my_module:judge"),
    ),
    "suite": Command(
        "suite",
        "SuiteConfig",
        "many policies, banks and seeds, on one leaderboard",
        ("suite suite.toml", "suite suite.toml --out runs/leaderboard"),
    ),
    "watch": Command(
        "watch",
        "WatchConfig",
        "a local page of runs, to try a policy, to answer as a person",
        ("watch runs/a runs/b", "watch --answer runs/me --limit 20"),
        ("runs", "policy", "answer", "bank", "limit", "port"),
    ),
    "doctor": Command(
        "doctor",
        "DoctorConfig",
        "what is wrong with a run; exits 0 healthy, 1 warning, 2 serious, 64 your mistake",
        ("doctor runs/mine", "doctor runs/a runs/b --json"),
        mistake=64,
    ),
    "import": Command(
        "importing",
        "ImportConfig",
        "read a training of TRL or logs of Inspect AI, vf-eval or lmms-eval, for report, compare and doctor",
        ("import runs/with-trl --out runs/imported", "import logs/anatomy.eval --out runs/inspect"),
    ),
    "audit": Command(
        "audit",
        "AuditConfig",
        "how far one gets on a bank without looking at its images",
        ("audit scenes", "audit jsonl:questions.jsonl --json"),
    ),
    "curriculum preview": Command(
        "curriculum",
        "PreviewConfig",
        "what a curriculum would ask over training, as a picture",
        ("curriculum preview", "curriculum preview --bank brain-atlas --curriculum-options schedule linear"),
        ("bank", "bank-options", "curriculum", "curriculum-options", "augmentation", "draws", "out"),
    ),
    "curriculum similarity": Command(
        "curriculum",
        "SimilarityConfig",
        "how alike structures are, as CSV and heat map",
        ("curriculum similarity", "curriculum similarity --bank brain-atlas --similarity ontology"),
    ),
    "curriculum options": Command(
        "options",
        "CurriculumOptions",
        "what --curriculum-options takes",
        ("curriculum options asc", "curriculum options my_module:MyCurriculum"),
    ),
    "bank list": Command(
        "bank",
        "ListConfig",
        "what banks, curricula, augmentations and policies there are",
        ("bank list", "bank list --help"),
    ),
    "bank options": Command(
        "options",
        "BankOptions",
        "what --bank-options takes",
        ("bank options masks", "bank options my_module:MyBank"),
    ),
    "bank validate": Command(
        "bank_validate",
        "ValidateConfig",
        "check every row, image and gold answer of a bank, and leaks",
        ("bank validate jsonl:questions.jsonl", "bank validate masks:data --limit 200 --json"),
    ),
    "bank preview": Command(
        "bank",
        "PreviewConfig",
        "a contact sheet and a page of questions to look at",
        ("bank preview", "bank preview jsonl:questions.jsonl -n 12"),
    ),
    "bank export": Command(
        "bank",
        "ExportConfig",
        "write questions as JSONL, or as a data set for Hugging Face or TRL",
        ("bank export scenes --split test -n 100 --out mine", "bank export brain-atlas --to trl -n 1000"),
    ),
    "augmentation options": Command(
        "options",
        "AugmentationOptions",
        "what --augmentation-options takes",
        ("augmentation options gdqa", "augmentation options my_module:MyAugmentation"),
    ),
    "policy options": Command(
        "options",
        "PolicyOptions",
        "what --policy-options takes",
        ("policy options hf", "policy options openai"),
    ),
}
