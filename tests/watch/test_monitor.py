"""A monitor is silent while nothing changes, says what has changed, and goes on after a restart."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from tiny import TINY, Tiny, noise

from patchcore import Detector, Monitor, StoreError, UsageError
from patchcore.maths.appearance import Appearance
from patchcore.watch.channel import LEAST


@pytest.fixture(scope="module")
def detector() -> Detector:
    """60 images, each scored against a bank without its fold, set its threshold."""
    return Detector(TINY.replace(calibration="folds"), backbone=Tiny()).fit(noise(60))


def like(seed: int, count: int, **changed: float) -> list[tuple[Appearance, float]]:
    """What images look like that differ by chance, and their scores; `changed`: by how many deviations."""
    drawn = np.random.default_rng(seed).normal(size=(count, 6))
    for name, by in changed.items():
        drawn[:, (*Appearance._fields, "score").index(name)] += by
    return [(Appearance(*(row[:5] / 100 + 0.5).tolist()), float(row[5] / 10 + 3)) for row in drawn]


@pytest.fixture
def monitor(detector) -> Monitor:
    """One that knows 100 such images."""
    found = Monitor(detector, defects=0.0)
    for channel, values in zip(
        found.state.channels, zip(*[(*a, s) for a, s in like(0, 100)], strict=True), strict=True
    ):
        channel.values, channel.counts = [], []
        for value in values:
            channel.learn(value)
    return found


def alarms(monitor: Monitor, stream) -> list:
    return [alarm for n, (looks, score) in enumerate(stream) for alarm in monitor.look(f"{n}.png", looks, score)]


def test_nothing_is_said_while_nothing_changes(monitor):
    assert alarms(monitor, like(1, 1000)) == []


@pytest.mark.parametrize(
    ("what", "by", "advice"),
    [
        ("brightness", -3, "lamps"), ("contrast", 3, "lamps"), ("sharpness", -3, "Clean the lens"),
        ("sharpness", 3, "gain and noise"), ("across", 3, "registration"), ("down", -3, "registration"),
    ],
)  # fmt: skip
def test_an_alarm_says_what_changed_by_how_much_since_when_and_what_to_do(monitor, what, by, advice):
    (alarm,) = alarms(monitor, [*like(1, 100), *like(2, 100, **{what: by})])
    assert alarm.what == what
    assert alarm.number < 170
    assert abs(alarm.since_number - 100) <= 20
    assert alarm.since == f"{alarm.since_number - 1}.png"
    assert alarm.before == pytest.approx(0.5, abs=0.004)
    assert alarm.now == pytest.approx(0.5 + by / 100, abs=0.012)
    assert np.sign(alarm.spreads) == np.sign(by)
    assert advice in alarm.advice
    assert "19 good images" in alarm.advice
    assert json.dumps(alarm.to_dict())


def test_scores_count_if_they_rise_and_not_if_they_fall(monitor):
    assert alarms(monitor, like(1, 400, score=-3)) == []
    (alarm,) = alarms(monitor, like(2, 800, score=3))
    assert alarm.what == "score"


def test_where_most_images_fail_the_advice_is_to_fit_again(detector):
    high = detector.fitted.calibration.threshold * 2
    found = Monitor(detector)
    still = Appearance(*np.median(detector.fitted.calibration.looks, 0))
    (alarm,) = [one for one in alarms(found, [(still, high)] * 60) if one.what == "score"]
    assert "fit again" in alarm.advice


def test_defective_parts_are_no_drift_up_to_their_share(monitor, detector):
    rng = np.random.default_rng(3)
    stream = [(looks, 9.0 if rng.random() < 0.08 else score) for looks, score in like(4, 3000)]
    forgiving = Monitor(detector, defects=0.1)
    for own, channel in zip(forgiving.state.channels, monitor.state.channels, strict=True):
        own.values, own.counts = channel.values[:], channel.counts[:]
    assert alarms(forgiving, stream) == []


def test_where_nothing_ever_varied_there_is_no_spread_to_compare_with(detector, tmp_path):
    monitor = Monitor(Detector(TINY, backbone=Tiny()).fit(noise(8)))
    found = alarms(monitor, [(Appearance(0.5, 0.1, 0.1, 0.5, 0.5), 1.0)] * 80)
    found += alarms(monitor, [(Appearance(0.6, 0.1, 0.1, 0.5, 0.5), 1.0)] * 80)
    assert [(one.what, one.spreads) for one in found] == [("brightness", None)]
    monitor.save(tmp_path / "s.json")


def test_each_change_is_said_once_and_others_are_still_seen(monitor):
    found = alarms(monitor, [*like(1, 300, brightness=3), *like(2, 200, brightness=3, down=3)])
    assert [one.what for one in found] == ["brightness", "down"]


def test_a_restart_changes_nothing(monitor, detector, tmp_path):
    stream = [*like(1, 80), *like(2, 100, sharpness=-2)]
    path = tmp_path / "state.json"
    monitor.save(path)
    expected = alarms(monitor, stream)
    again = []
    for begin in range(0, len(stream), 9):
        now = Monitor.load(path, detector)
        for number, (looks, score) in enumerate(stream[begin : begin + 9], begin):
            again += now.look(f"{number}.png", looks, score)
        now.save(path)
    assert again == expected
    assert len(expected) == 1
    assert Monitor.load(path, detector).state == monitor.state


def test_results_of_images_are_seen_and_the_calibration_is_the_reference(detector):
    monitor = Monitor(detector)
    assert not monitor.learning
    blurred = [gaussian_filter1d(one, 0.6, axis=1) for one in noise(60, seed=2)]
    found = [alarm.what for result in detector.stream(blurred) for alarm in monitor.see(result)]
    assert "sharpness" in found


def test_images_like_those_of_calibration_give_no_alarm_and_the_file_keeps_what_they_looked_like(detector, tmp_path):
    detector.save(tmp_path / "m.patchcore")
    loaded = Detector.load(tmp_path / "m.patchcore", backbone=Tiny())
    assert loaded.fitted.calibration == detector.fitted.calibration
    monitor = Monitor(loaded)
    assert [alarm for result in loaded.stream(noise(80, seed=5)) for alarm in monitor.see(result)] == []


def test_without_a_reference_the_first_images_are_it():
    small = Detector(TINY, backbone=Tiny()).fit(noise(8))
    monitor = Monitor(small)
    assert set(monitor.learning.values()) == {LEAST - len(small.fitted.calibration.scores)}
    assert [one.what for one in alarms(monitor, [*like(1, 60), *like(2, 60, brightness=4)])] == ["brightness"]
    assert monitor.learning == {}


def test_a_state_of_another_detector_is_refused(detector, tmp_path):
    Monitor(Detector(TINY, backbone=Tiny()).fit(noise(8))).save(tmp_path / "s.json")
    with pytest.raises(UsageError, match="another detector"):
        Monitor.load(tmp_path / "s.json", detector)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 2}', "\xff", "null"])
def test_a_file_that_is_no_state_says_so(detector, tmp_path, text):
    (tmp_path / "s.json").write_text(text, "latin1")
    with pytest.raises(StoreError, match=r"s\.json"):
        Monitor.load(tmp_path / "s.json", detector)


def test_a_state_whose_parts_do_not_belong_together_is_refused(detector, tmp_path):
    path = tmp_path / "s.json"
    Monitor(detector).save(path)
    for name, value in (("counts", [1]), ("stakes", [1.0]), ("runs", []), ("what", "taste")):
        told = json.loads(path.read_text("utf-8"))
        told["channels"][0][name] = value
        (tmp_path / "t.json").write_text(json.dumps(told), "utf-8")
        with pytest.raises(StoreError, match=r"t\.json"):
            Monitor.load(tmp_path / "t.json", detector)


@pytest.mark.parametrize(
    "options", [{"false_alarm_rate": 0.0}, {"false_alarm_rate": 1.0}, {"defects": -0.1}, {"defects": 0.5}]
)
def test_rates_out_of_range_are_refused(detector, options):
    with pytest.raises(UsageError, match=next(iter(options))):
        Monitor(detector, **options)
