"""Log-probs of given responses: prefix trees, attention over them, a softmax in chunks."""

from anatomy_r1.agents.logprobs.attention_ways import way_in_words
from anatomy_r1.agents.logprobs.check import check_trees
from anatomy_r1.agents.logprobs.chunked_softmax import CHUNK, tempered_log_softmax
from anatomy_r1.agents.logprobs.compat import attention_of
from anatomy_r1.agents.logprobs.prefix_tree import LongRow, Tree, batches, build_tree, build_trees
from anatomy_r1.agents.logprobs.responses import ResponseLogProbs, TokenLogProbs, blank_tree
from anatomy_r1.agents.logprobs.tree_attention import most_keys
from anatomy_r1.agents.logprobs.tree_inputs import why_no_trees

__all__ = [
    "CHUNK",
    "LongRow",
    "ResponseLogProbs",
    "TokenLogProbs",
    "Tree",
    "attention_of",
    "batches",
    "blank_tree",
    "build_tree",
    "build_trees",
    "check_trees",
    "most_keys",
    "tempered_log_softmax",
    "way_in_words",
    "why_no_trees",
]
