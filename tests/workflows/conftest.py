import pytest

from anatomy_r1.banks import open_bank


@pytest.fixture(scope="session")
def bank():
    return open_bank("scenes")
