import pytest
@pytest.mark.parametrize("n", range(4))
def test_x(database, n):
    assert database.alive() is None
