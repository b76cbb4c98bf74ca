"""What keeps other packages quiet."""

import logging
import subprocess
import sys
import warnings

import pytest

from patchcore import silence


def test_logs_are_quiet_below_errors_and_then_as_they_were(caplog):
    loud, other = logging.getLogger("loud"), logging.getLogger("other")
    loud.setLevel(logging.INFO)
    other.setLevel(logging.INFO)
    with silence.logs("loud"):
        loud.warning("not said")
        loud.error("said")
        other.info("said too")
    loud.info("said again")
    assert [record.message for record in caplog.records] == ["said", "said too", "said again"]


def test_the_root_s_level_comes_back_whatever_a_library_has_set():
    level = logging.getLogger().level
    with silence.logs("loud"):
        assert logging.getLogger().level == level
        logging.getLogger().setLevel(logging.CRITICAL)
    assert logging.getLogger().level == level


def test_levels_come_back_after_an_error():
    level = logging.getLogger("loud").level
    with pytest.raises(ZeroDivisionError), silence.logs("loud"):
        _ = 1 / 0
    assert logging.getLogger("loud").level == level


def test_warnings_are_kept_back_only_inside():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with silence.logs_and_warnings():
            warnings.warn("not shown", stacklevel=1)
        warnings.warn("shown", stacklevel=1)
    assert [str(one.message) for one in seen] == ["shown"]


def test_nncf_is_imported_without_its_telemetry():
    pytest.importorskip("nncf")
    code = (
        "import sys\nfrom patchcore import silence\n"
        "assert 'nncf' not in sys.modules\n"
        "with silence.logs('nncf'):\n    silence.imported('nncf')\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
        "from nncf.telemetry.wrapper import telemetry\n"
        "print(type(telemetry).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "MagicMock"  # NNCF's own, where there is no telemetry


def test_a_package_that_is_not_there_is_an_import_error():
    with pytest.raises(ImportError):
        silence.imported("no_such_package")
