"""What every room stands on: questions, prompts, images, files, names, and the one error that a user can mend."""

from anatomy_r1.core.arrays import Floats
from anatomy_r1.core.dicom import is_dicom, open_dicom, stored_values
from anatomy_r1.core.errors import AnatomyError
from anatomy_r1.core.files import (
    parse_json,
    read_json,
    read_jsonl,
    read_rows,
    read_text,
    write_bytes,
    write_chunks,
    write_json,
)
from anatomy_r1.core.image_folder import ImageFolder, absent_allowed, images_may_be_absent, inside
from anatomy_r1.core.image_loading import ImageLoader, stream
from anatomy_r1.core.images import MAX_PIXELS, read_image
from anatomy_r1.core.prompt import (
    INSTRUCTION,
    INSTRUCTIONS,
    NUMBERED,
    STYLES,
    option_lines,
    render_prompt,
    stem_of,
    style_of,
)
from anatomy_r1.core.question import LETTERS, Image, ImageSource, Question, find_markup, normalise
from anatomy_r1.core.registry import Registry

__all__ = [
    "INSTRUCTION",
    "INSTRUCTIONS",
    "LETTERS",
    "MAX_PIXELS",
    "NUMBERED",
    "STYLES",
    "AnatomyError",
    "Floats",
    "Image",
    "ImageFolder",
    "ImageLoader",
    "ImageSource",
    "Question",
    "Registry",
    "absent_allowed",
    "find_markup",
    "images_may_be_absent",
    "inside",
    "is_dicom",
    "normalise",
    "open_dicom",
    "option_lines",
    "parse_json",
    "read_image",
    "read_json",
    "read_jsonl",
    "read_rows",
    "read_text",
    "render_prompt",
    "stem_of",
    "stored_values",
    "stream",
    "style_of",
    "write_bytes",
    "write_chunks",
    "write_json",
]
