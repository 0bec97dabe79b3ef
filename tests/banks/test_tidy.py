import pytest

from anatomy_r1.banks.tidy import tidy


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("Left Ventricle.", "Left ventricle"),
        ("t2n0m0", "T2N0M0"),
        ("Tumour stage IIIA", "Tumour stage IIIA"),
        ("tumour stage iiia", "Tumour stage IIIA"),
        ("Grade ii", "Grade II"),
        ("type i", "Type I"),
        ("hepatitis B", "Hepatitis B"),
        ("crohn's Disease", "Crohn's disease"),
        ("non-Hodgkin Lymphoma", "Non-Hodgkin lymphoma"),
        ("Meckel’s Diverticulum", "Meckel’s diverticulum"),
        ("circle of Willis", "Circle of Willis"),
        ("mRNA Level", "mRNA level"),
        ("L4 Vertebra", "L4 vertebra"),
        ("her2 positive", "HER2 positive"),
        ("Chest X-ray", "Chest X-ray"),
        ("CT", "CT"),
        ("ct", "CT"),
        ("a 5mm Nodule", "A 5mm nodule"),
        ("mix of both", "Mix of both"),
        ("disease of Sjögren", "Disease of Sjögren"),
        ("disease of Ménière", "Disease of Ménière"),
        ("ulcer of the Cooper's ligament", "Ulcer of the Cooper's ligament"),
        ("on the Patient's Left", "On the patient's left"),
        ("stage ib", "Stage IB"),
        ("grade 3b", "Grade 3B"),
        ("a le fort ii fracture", "A le Fort II fracture"),
        ("LEFT KIDNEY", "Left kidney"),
        ("STAGE T2N0M0 CARCINOMA", "Stage T2N0M0 carcinoma"),
    ],
)
def test_options_take_one_form_with_the_capitals_of_clinicians(option, expected):
    assert tidy(option) == expected
    assert tidy(expected) == expected


def test_letter_case_tells_nothing_about_names_either():
    """An option that was written in small letters comes out as the one that was not."""
    for name in ("Barrett's esophagus", "Stage IV", "T1a", "Hodgkin lymphoma", "C5 vertebra", "Type I"):
        assert tidy(name) == tidy(name.lower())
