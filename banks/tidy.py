"""One form for all options, so that letter case tells nothing, with the capitals that clinicians write."""

import re
from functools import lru_cache
from unicodedata import combining, normalize

_WORD = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)?")
_ROMAN = re.compile(r"(x{0,2}(?:ix|iv|v?i{0,3}))([a-c]?)", re.IGNORECASE)
_TNM = re.compile(r"[cpy]{0,2}(?:[tnm](?:\d[a-d]?|x|is))+", re.IGNORECASE)
_CODE = re.compile(r"([a-z]{1,3})(\d+)([a-z]?)", re.IGNORECASE)
_LETTERED = frozenset(
    [
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
        "weber",
        "zone",
    ]
)
"""Words after which a single letter is a name: hepatitis A."""
_NAMES = """
achilles addison alzheimer asperger baastrup barre barrett bartholin behcet bertin bigelow bochdalek boerhaave bosniak
botallo bowen bowman brenner broca brodmann brunner budd buerger burkitt calot caroli charcot chiari chopart cobb
codman colles couinaud couvelaire cowper crohn cushing denonvilliers dieulafoy disse doppler douglas dupuytren ebner
ebstein eisenmenger ellison ewing fallot galeazzi gartner gaucher gerdy gerota gimbernat gleason glisson goodpasture
graves guillain hartmann hashimoto havers henle henoch hesselbach hippel hirschfeld hirschsprung hodgkin hoffa
hounsfield hunner huntington hutchinson kaposi kawasaki kerley kienbock klatskin klinefelter kohler kohn krukenberg
kupffer langerhans larrey leydig lieberkuhn lindau lisfranc lund luschka luys madelung magendie mallory marfan
mauthner meckel meniere merkel mirizzi mondor monro monteggia morgagni morison morton naboth nuck oddi osgood osler
paget pancoast panner parkinson perthes peyer peyronie plummer pott poupart prussak pugh purkinje quervain ranvier
rathke raynaud reinke retzius rexed rokitansky rolando rosenmuller roux santorini sappey scarpa schatzki scheuermann
schlatter schlemm schmorl schonlein schwann sertoli shrapnell sibson sjogren spieghel spigelian stensen sudeck sylvian
sylvius takayasu tenon tietze todaro towne treitz trendelenburg troisier valsalva vater vieussens virchow volkmann
waldenstrom waldeyer warthin wegener wernicke wharton willis wilms wirsung wormian wrisberg zeis zenker zinn zollinger
"""
NAMES = frozenset(_NAMES.split())
"""People and places that structures and diseases are called after, without accents. Those that are words, too (Bell,
Cooper), are known by an apostrophe alone."""
_OWNERS = frozenset(
    [
        "athlete",
        "baby",
        "body",
        "child",
        "donor",
        "farmer",
        "fetus",
        "golfer",
        "infant",
        "jumper",
        "mother",
        "organ",
        "patient",
        "runner",
    ]
)
"""Who is meant by what ends in 's, but is nobody's name."""
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
    if " " in words and words.isupper() and re.search(r"[^\W\d]{6}", words):
        words = words.lower()  # all in capitals, which then tell nothing
    text = _WORD.sub(lambda found: _formed(found[0], words[: found.start()]), words)
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]


def _formed(word: str, before: str) -> str:
    if (code := _code(word)) is not None:
        return code
    small, last = word.lower(), before.lower().split()[-1:]
    if _LETTERED.intersection(last) and re.fullmatch(r"(?:[ivx]|\d)?[a-z]", small):  # stage IB, grade 3b
        return word.upper()
    if len(word) == 1:
        return word.upper() if word.isupper() and word != "A" else small
    if small in ABBREVIATIONS:
        return word.upper()
    if _is_name(small) or (small == "fort" and last == ["le"]):
        return small.capitalize()
    mixed = word[1:] != small[1:] and not word.isupper()  # mRNA, pH
    return word if mixed or (word.isupper() and len(word) <= 5) else small


def _is_name(small: str) -> bool:
    owner, apostrophe, _ = small.replace("’", "'").partition("'")
    owner = "".join(letter for letter in normalize("NFD", owner) if not combining(letter))
    return owner in NAMES or owner.removesuffix("s") in NAMES or (bool(apostrophe) and owner not in _OWNERS)


def _code(word: str) -> str | None:
    """Roman numerals, TNM stages and codes such as L4 or HER2, in one form; None for other words."""
    if _TNM.fullmatch(word):
        return re.sub(r"[tnm](?=\d|x|is)", lambda found: found[0].upper(), word.lower()).replace("x", "X")
    roman = _ROMAN.fullmatch(word)
    if (roman and len(roman[1]) > 1) or word in ("I", "V", "X"):
        return word.upper()
    code = _CODE.fullmatch(word)
    return code[1].upper() + code[2] + code[3].lower() if code else None
