"""One form for all options, so that letter case tells nothing, with the capitals that clinicians write."""

import re
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)?")
_ROMAN = re.compile(r"(x{0,2}(?:ix|iv|v?i{0,3}))([a-c]?)", re.IGNORECASE)
_TNM = re.compile(r"[cpy]{0,2}(?:[tnm](?:\d[a-d]?|x|is))+", re.IGNORECASE)
_CODE = re.compile(r"([a-z]{1,3})(\d+)([a-z]?)", re.IGNORECASE)
_LETTERED = frozenset(
    {
        "class",
        "factor",
        "grade",
        "group",
        "hepatitis",
        "influenza",
        "level",
        "segment",
        "stage",
        "type",
        "vitamin",
        "zone",
        "weber",
    }
)
"""Words after which a single letter is a name: hepatitis A."""
NAMES = frozenset(
    {
        "achilles",
        "addison",
        "alzheimer",
        "asperger",
        "barrett",
        "bartholin",
        "behcet",
        "bochdalek",
        "bosniak",
        "bowen",
        "bowman",
        "broca",
        "brodmann",
        "brunner",
        "burkitt",
        "calot",
        "chiari",
        "colles",
        "cowper",
        "crohn",
        "cushing",
        "doppler",
        "douglas",
        "dupuytren",
        "ebstein",
        "ewing",
        "fallot",
        "galeazzi",
        "gaucher",
        "gleason",
        "glisson",
        "graves",
        "guillain",
        "hartmann",
        "hashimoto",
        "henle",
        "hirschsprung",
        "hodgkin",
        "huntington",
        "kaposi",
        "kawasaki",
        "kerley",
        "klatskin",
        "krukenberg",
        "kupffer",
        "langerhans",
        "lisfranc",
        "luschka",
        "magendie",
        "mallory",
        "marfan",
        "meckel",
        "meniere",
        "merkel",
        "monro",
        "monteggia",
        "morgagni",
        "morison",
        "oddi",
        "osgood",
        "paget",
        "pancoast",
        "parkinson",
        "perthes",
        "peyer",
        "peyronie",
        "pott",
        "purkinje",
        "ranvier",
        "raynaud",
        "retzius",
        "rolando",
        "scheuermann",
        "schlemm",
        "schwann",
        "sjogren",
        "sylvius",
        "takayasu",
        "tenon",
        "treitz",
        "vater",
        "virchow",
        "waldenstrom",
        "wernicke",
        "willis",
        "wilms",
        "zenker",
    }
)
"""People and places that structures and diseases are called after."""
ABBREVIATIONS = frozenset({"copd", "ct", "ecg", "eeg", "hiv", "ivc", "mri", "sma", "smv", "svc", "tnm"})
"""Such as are no words in small letters either; others are known by their capitals."""


@lru_cache(maxsize=65536)
def tidy(option: str) -> str:
    """One form for all options: small letters but for names and abbreviations, a capital first, no full stop.

    >>> tidy(" common  Bile Duct.")
    'Common bile duct'
    >>> tidy("stage ii, t2n0m0"), tidy("Non-Hodgkin Lymphoma")
    ('Stage II, T2N0M0', 'Non-Hodgkin lymphoma')
    """
    words = " ".join(option.split()).rstrip(". ")
    text = _WORD.sub(lambda found: _formed(found[0], words[: found.start()]), words)
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]


def _formed(word: str, before: str) -> str:
    if (code := _code(word)) is not None:
        return code
    small = word.lower()
    if len(word) == 1:
        last = before.lower().split()[-1:]
        return word.upper() if (word.isupper() and word != "A") or _LETTERED.intersection(last) else small
    if small in ABBREVIATIONS:
        return word.upper()
    owner = re.split("['’]", small)[0]
    if owner in NAMES or owner.removesuffix("s") in NAMES:
        return small.capitalize()
    mixed = word[1:] != small[1:] and not word.isupper()  # mRNA, pH
    return word if mixed or (word.isupper() and len(word) <= 5) else small


def _code(word: str) -> str | None:
    """Roman numerals, TNM stages and codes such as L4 or HER2, in one form; None for other words."""
    if _TNM.fullmatch(word):
        return re.sub(r"[tnm](?=\d|x|is)", lambda found: found[0].upper(), word.lower()).replace("x", "X")
    roman = _ROMAN.fullmatch(word)
    if (roman and len(roman[1]) > 1) or word in ("I", "V", "X"):
        return word.upper()
    code = _CODE.fullmatch(word)
    return code[1].upper() + code[2] + code[3].lower() if code else None
