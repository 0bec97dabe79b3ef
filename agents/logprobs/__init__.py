"""Log-probs of given responses: prefix trees, attention over them, a softmax in chunks."""

from anatomy_r1.agents.logprobs.check import check_trees
from anatomy_r1.agents.logprobs.chunked_softmax import CHUNK, tempered_log_softmax
from anatomy_r1.agents.logprobs.compat import attention_of
from anatomy_r1.agents.logprobs.prefix_tree import MASK_LIMIT, LongRow, Tree, batches, build_tree, build_trees
from anatomy_r1.agents.logprobs.responses import ResponseLogProbs, TokenLogProbs
from anatomy_r1.agents.logprobs.tree_inputs import why_no_trees

__all__ = [
    "CHUNK",
    "MASK_LIMIT",
    "LongRow",
    "ResponseLogProbs",
    "TokenLogProbs",
    "Tree",
    "attention_of",
    "batches",
    "build_tree",
    "build_trees",
    "check_trees",
    "tempered_log_softmax",
    "why_no_trees",
]
