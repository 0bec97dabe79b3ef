"""What every room stands on: questions, prompts, images, files, names, and the one error that a user can mend."""

from anatomy_r1.core.arrays import Floats
from anatomy_r1.core.errors import AnatomyError
from anatomy_r1.core.files import (
    SMALL,
    open_regular,
    parse_json,
    read_json,
    read_jsonl,
    read_rows,
    read_text,
    write_bytes,
    write_chunks,
    write_json,
)
from anatomy_r1.core.image_folder import Grounds, ImageFolder, inside, spellings
from anatomy_r1.core.image_loading import ImageLoader, stream
from anatomy_r1.core.images import MAX_PIXELS, read_image
from anatomy_r1.core.prompt import INSTRUCTION, INSTRUCTIONS, NUMBERED, STYLES, option_lines, render_prompt, style_of
from anatomy_r1.core.question import LETTERS, Image, ImageSource, Question, find_markup, normalise
from anatomy_r1.core.registry import Registry

__all__ = [
    "INSTRUCTION",
    "INSTRUCTIONS",
    "LETTERS",
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
    "Question",
    "Registry",
    "find_markup",
    "inside",
    "normalise",
    "open_regular",
    "option_lines",
    "parse_json",
    "read_image",
    "read_json",
    "read_jsonl",
    "read_rows",
    "read_text",
    "render_prompt",
    "spellings",
    "stream",
    "style_of",
    "write_bytes",
    "write_chunks",
    "write_json",
]
