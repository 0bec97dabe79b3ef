"""What every room stands on: questions, prompts, images, files, names, and the one error that a user can mend."""

from anatomy_r1.core.arrays import Floats
from anatomy_r1.core.compat import go_offline
from anatomy_r1.core.dicom import is_dicom, open_dicom, stored_values
from anatomy_r1.core.errors import AnatomyError, Stopped, UnknownOptionError, stop_signals
from anatomy_r1.core.files import (
    SMALL,
    make_folder,
    open_regular,
    parse_json,
    read_json,
    read_jsonl,
    read_rows,
    read_text,
    temporary_folder,
    write_bytes,
    write_chunks,
    write_json,
)
from anatomy_r1.core.hub import hub_address, hub_problem
from anatomy_r1.core.image_folder import Grounds, ImageFolder, inside, spellings
from anatomy_r1.core.image_loading import ImageLoader, stream
from anatomy_r1.core.images import MAX_PIXELS, read_image
from anatomy_r1.core.labels import DEFAULT_STYLE, LETTERS, NUMBERED, STYLES, read_label
from anatomy_r1.core.locks import LOCK, claim_folder, claiming_folder, release_folder
from anatomy_r1.core.markup import SpecialTokens, clean, find_markup
from anatomy_r1.core.memo import Memo
from anatomy_r1.core.prompt import (
    INSTRUCTION,
    INSTRUCTIONS,
    PromptText,
    option_lines,
    read_option,
    read_prompt,
    render_prompt,
    stem_of,
)
from anatomy_r1.core.question import Image, ImageSource, Question, image_key
from anatomy_r1.core.registry import Registry, build, import_attribute, nearest, parameters_of
from anatomy_r1.core.text import canonical, is_visible, normalise

__all__ = [
    "DEFAULT_STYLE",
    "INSTRUCTION",
    "INSTRUCTIONS",
    "LETTERS",
    "LOCK",
    "MAX_PIXELS",
    "NUMBERED",
    "SMALL",
    "STYLES",
    "AnatomyError",
    "Floats",
    "Grounds",
    "Image",
    "ImageFolder",
    "ImageLoader",
    "ImageSource",
    "Memo",
    "PromptText",
    "Question",
    "Registry",
    "SpecialTokens",
    "Stopped",
    "UnknownOptionError",
    "build",
    "canonical",
    "claim_folder",
    "claiming_folder",
    "clean",
    "find_markup",
    "go_offline",
    "hub_address",
    "hub_problem",
    "image_key",
    "import_attribute",
    "inside",
    "is_dicom",
    "is_visible",
    "make_folder",
    "nearest",
    "normalise",
    "open_dicom",
    "open_regular",
    "option_lines",
    "parameters_of",
    "parse_json",
    "read_image",
    "read_json",
    "read_jsonl",
    "read_label",
    "read_option",
    "read_prompt",
    "read_rows",
    "read_text",
    "release_folder",
    "render_prompt",
    "spellings",
    "stem_of",
    "stop_signals",
    "stored_values",
    "stream",
    "temporary_folder",
    "write_bytes",
    "write_chunks",
    "write_json",
]
