"""The pages in a real browser, over a real station."""

import json
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect
from serving import until

from patchcore.oversight.region_file import read_region
from patchcore.station.api.regions import region_file
from patchcore.station.jobs import to_dict as job_dict
from patchcore.station.people import accounts
from patchcore.station.store.tables import Inspection, Job, JobState, Line, Model, Review, Role

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
PAGES = (
    "inspect",
    "review",
    "history",
    "watch",
    "teach",
    "verdict",
    "models",
    "lines",
    "people",
    "results/1",
    "login",
    "password",
)


def settled(page):
    """Until the page has heard of the station, and what it asked for is there."""
    if page.locator("#link-state").count():
        expect(page.locator("#link-state")).to_have_attribute("data-state", "live")
    page.wait_for_load_state("networkidle") if page.locator("#link-state").count() == 0 else page.wait_for_timeout(300)


def violations(page):
    """What axe-core finds that is serious. The script is given to the browser, past the policy of the page."""
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    return [
        (one["id"], [node["html"][:160] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_every_page_opens_without_complaint_fits_and_is_accessible(open_page, width, dark):
    page = open_page("/", width=width, dark=dark)
    assert page.url.endswith("/inspect")
    for path in PAGES:
        page.goto(f"/{path}")
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.locator("h1").count() == 1, path
        if AXE.exists():
            assert violations(page) == [], path
    assert page.complaints == []


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core here: make pages")
def test_the_accessibility_of_every_page_was_looked_at():
    """Says that it was not, where axe-core is missing."""


@pytest.mark.parametrize(
    ("language", "word", "door"), [("en", "FAIL", "Log in"), ("de", "FEHLER", "Anmelden"), ("zh", "缺陷", "登录")]
)
def test_pages_speak_the_language_of_the_person_and_before_the_login_of_the_browser(
    open_page, served, language, word, door
):
    other = "de" if language == "en" else "en"
    page = open_page(
        "/inspect", who=served.person(f"speaks {language}", Role.operator, language=language), locale=other
    )
    assert page.evaluate("document.documentElement.lang") == language
    expect(page.locator(".counter.fail")).to_contain_text(word)
    page = open_page("/login", locale=language)
    expect(page.locator("h1")).to_have_text(door)


def test_an_operator_sees_no_more_than_an_operator_may(open_page, served):
    page = open_page("/inspect", who=served.person("otto", Role.operator))
    assert page.locator(".rail nav a").evaluate_all("all => all.map(one => one.pathname)") == [
        "/inspect",
        "/review",
        "/history",
        "/watch",
    ]
    for path in ("teach", "verdict", "models", "lines", "people"):
        page.goto(f"/{path}")
        expect(page.locator("h1")).to_have_text("Not for your role")


def test_who_is_not_known_is_sent_to_the_login_and_back(open_page, served):
    _, password = accounts.make(served.station.database, "x", "petra", Role.engineer)
    page = open_page("/login")
    page.context.clear_cookies()
    page.goto("/history?verdict=fail")
    expect(page.locator("h1")).to_have_text("Log in")
    page.get_by_label("Name").fill("petra")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    page.get_by_label("Name").fill("petra")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("h1")).to_have_text("Change your password")
    page.get_by_label("Present password").fill(password)
    page.get_by_label("New password").fill("correct horse battery")
    page.get_by_label("The new one again").fill("correct horse battery")
    page.get_by_role("button", name="Change the password").click()
    page.wait_for_url("**/history?verdict=fail")
    page.locator(".me summary").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("h1")).to_have_text("Log in")
    assert page.complaints == []


def test_accounts_keys_and_the_trail_are_looked_after(open_page, served):
    page = open_page("/people")
    page.locator("#make-person [name=name]").fill("karl")
    page.locator("#make-person button").click()
    secret = page.locator("#secret-text")
    expect(secret).not_to_be_empty()
    page.get_by_role("button", name="I have noted it").click()
    row = page.locator("#accounts tr", has_text="karl")
    row.locator("select").select_option("engineer")
    expect(page.locator("#trail tr").first).to_contain_text("person.change")
    row.get_by_role("button", name="Shut").click()
    expect(row).to_have_class("shut")
    page.locator("#make-key [name=name]").fill("press 7")
    page.locator("#make-key button").click()
    expect(secret).to_contain_text("pc_")
    page.get_by_role("button", name="I have noted it").click()
    page.locator("#keys tr", has_text="press 7").get_by_role("button", name="Revoke").click()
    expect(page.locator("#keys tr", has_text="press 7")).to_contain_text("revoked")
    page.get_by_role("button", name="Check the trail").click()
    expect(page.locator("#checked")).to_contain_text("are there and unchanged")
    page.locator("#trail-search [name=action]").fill("key.")
    page.locator("#trail-search button").click()
    expect(page.locator("#trail tr")).to_have_count(2)
    assert page.complaints == []


def test_a_dark_page_can_be_switched_to_light_and_stays_so(open_page):
    page = open_page("/watch", dark=True)
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.locator(".me summary").click()
    page.get_by_label("Colours").select_option("light")
    after = page.evaluate(ground)
    assert after != before
    page.reload()
    assert page.evaluate(ground) == after


def test_an_image_that_is_chosen_gets_its_verdict_map_and_evidence(open_page, defects, good):
    page = open_page("/inspect")
    settled(page)
    before = int(page.locator("#count-fail").inner_text())
    page.locator("#drop input").set_input_files(defects[1])
    panel = page.locator("#panel")
    expect(panel).to_have_attribute("data-state", "live")
    expect(panel).to_have_attribute("data-verdict", "fail")
    expect(page.locator("#word")).to_have_text("FAIL")
    expect(page.locator("#count-fail")).to_have_text(str(before + 1))
    expect(page.locator("#viewer .heat")).to_be_visible()
    expect(page.locator("#evidence img")).not_to_have_count(0)
    page.locator("#viewer .opacity").fill("20")
    assert page.locator("#viewer .heat").evaluate("one => one.style.opacity") == "0.2"
    page.locator("#viewer .stage").focus()
    page.keyboard.press("+")
    assert page.locator(".zoom-value").inner_text() == "150%"
    page.keyboard.press("0")
    assert page.locator(".zoom-value").inner_text() == "100%"
    page.locator("#drop input").set_input_files(good[1])
    expect(panel).to_have_attribute("data-verdict", "pass")
    expect(page.locator("#evidence img")).to_have_count(0)
    assert page.complaints == []


def test_what_is_no_image_is_refused_by_name(open_page, tmp_path):
    page = open_page("/inspect")
    (tmp_path / "broken.png").write_bytes(b"no image")
    page.locator("#drop input").set_input_files(tmp_path / "broken.png")
    expect(page.locator(".note.bad")).to_contain_text("broken.png")


def test_a_page_that_shows_300_results_does_not_grow(open_page, served, good):
    page = open_page("/inspect")
    settled(page)
    told = served.inspect(good[0])
    expect(page.locator("#panel")).to_have_attribute("data-state", "live")
    elements = "document.querySelectorAll('*').length"
    sizes = []
    for part in range(300):
        served.station.hub.publish("result", {**told, "id": told["id"], "part": f"p{part}"})
        if part in (99, 299):
            expect(page.locator("#told")).to_have_text(f"p{part}")
            sizes.append(page.evaluate(elements))
        elif part % 50 == 0:
            page.wait_for_timeout(30)
    assert sizes[1] <= sizes[0]
    assert page.locator("#thumbs li").count() <= 50


def test_two_browsers_see_the_same(open_page, served, defects):
    pages = [open_page("/inspect"), open_page("/inspect", width=390)]
    for page in pages:
        settled(page)
    served.inspect(defects[2], "both")
    for page in pages:
        expect(page.locator("#told")).to_have_text("both")
        expect(page.locator("#panel")).to_have_attribute("data-verdict", "fail")
    counts = [page.locator("#count-fail").inner_text() for page in pages]
    assert counts[0] == counts[1]


def opened(served, count=1):
    """So many newest results that wait for a decision."""
    with served.station.database.read() as session:
        query = session.query(Inspection).filter(Inspection.review == Review.open).order_by(Inspection.id.desc())
        return [one.id for one in query.limit(count)]


def state_of(served, number):
    with served.station.database.read() as session:
        row = session.get_one(Inspection, number)
        return row.review.value, row.note


def test_a_part_is_reviewed_by_keys_alone_with_undo(open_page, served, defects):
    first = served.inspect(defects[0], "key-1")["id"]
    second = served.inspect(defects[1], "key-2")["id"]
    page = open_page("/review")
    expect(page.locator("#desk-name")).to_have_text("key-2")
    page.keyboard.press("n")
    page.keyboard.type("scratch, clearly")
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    expect(page.locator("#desk-name")).to_have_text("key-1")
    assert state_of(served, second) == ("confirmed", "scratch, clearly")
    expect(page.locator("#decided tr").first).to_contain_text("scratch, clearly")
    page.keyboard.press("u")
    expect(page.locator("#desk-name")).to_have_text("key-2")
    until(lambda: state_of(served, second)[0] == "open")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#desk-name")).to_have_text("key-1")
    page.keyboard.press("Shift+G")
    until(lambda: state_of(served, first)[0] == "good")
    assert page.complaints == []


def test_a_part_far_above_the_threshold_is_taught_after_one_question_and_taken_back(open_page, served, defects):
    number = served.inspect(defects[3], "lesson")["id"]
    page = open_page("/review")
    expect(page.locator("#desk-name")).to_have_text("lesson")
    page.keyboard.press("g")
    expect(page.locator("#sure-about")).to_contain_text("times the score of the threshold")
    page.keyboard.press("g")  # not twice by mistake
    page.keyboard.press("Escape")
    expect(page.locator("#sure")).to_be_hidden()
    assert state_of(served, number)[0] == "open"
    page.keyboard.press("g")
    page.keyboard.press("Enter")
    until(lambda: state_of(served, number)[0] == "taught")
    with served.station.database.read() as session:
        assert session.get_one(Line, 1).model.how == "teach"
    expect(page.locator(".note").last).to_contain_text("lesson")
    page.locator(".note").last.get_by_role("button", name="Undo").click()
    until(lambda: state_of(served, number)[0] == "open")
    with served.station.database.read() as session:
        assert session.get_one(Line, 1).model.how == "import"


def test_a_colleague_who_was_first_is_named(open_page, served, defects):
    number = served.inspect(defects[0], "contested")["id"]
    one, other = open_page("/review"), open_page("/review")
    for page in (one, other):
        expect(page.locator("#desk-name")).to_have_text("contested")
    one.locator("#confirm").click()
    expect(other.locator("#taken")).to_contain_text("admin was first: Defect confirmed")
    expect(other.locator("#confirm")).to_be_disabled()
    assert state_of(served, number)[0] == "confirmed"


def test_a_decision_that_comes_second_is_refused_and_says_whose_the_first_was(open_page, served, defects):
    number = served.inspect(defects[0], "late")["id"]
    page = open_page("/review")
    expect(page.locator("#desk-name")).to_have_text("late")
    with served.station.database.begin() as session:  # without an event: it was on its way
        row = session.get_one(Inspection, number)
        row.review, row.reviewed_by = Review.good, "anna"
    page.keyboard.press("c")
    expect(page.locator("#taken")).to_have_text("anna was first: Good.")
    assert state_of(served, number)[0] == "good"


def test_history_finds_by_verdict_and_text_and_opens_a_result(open_page, served, good):
    hostile = '"><img src=x onerror=alert(1)></script>'
    served.inspect(good[2], hostile)
    page = open_page("/history")
    page.on("dialog", lambda dialog: pytest.fail("a script ran"))
    page.get_by_label("Verdict").select_option("pass")
    page.get_by_label("Text").fill("onerror")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".result-card")).to_have_count(1)
    assert page.url.endswith("/history?text=onerror&verdict=pass")
    csv = page.get_by_role("link", name="Export CSV").get_attribute("href")
    assert set(csv.partition("?")[2].split("&")) == {"verdict=pass", "text=onerror"}
    page.locator(".result-card").click()
    expect(page.locator("h1")).to_have_text(hostile)
    expect(page.locator(".verdict-badge")).to_have_text("PASS")
    page.goto("/inspect")
    page.goto("/review")
    page.goto("/history?since=nonsense")
    expect(page.locator(".banner.bad").last).to_be_visible()
    assert page.complaints == []


def test_what_is_not_there_says_so(open_page):
    page = open_page("/results/999999")
    expect(page.locator("h1")).to_have_text("Not found")
    page.goto("/nothing")
    expect(page.locator("h1")).to_have_text("Not found")


def test_the_slider_states_its_guarantee_and_applying_makes_a_version(open_page, served):
    page = open_page("/verdict")
    statement = page.locator("#statement")
    expect(statement).to_contain_text("good parts")
    line = page.locator(".new-threshold line")
    page.locator("#rate").fill("8")
    expect(page.locator("#rate-value")).to_have_text("20%")
    expect(statement).to_contain_text("On average, at most 20% of good parts are rejected.")
    low = float(line.get_attribute("x1"))
    page.locator("#rate").fill("0")
    expect(statement).to_contain_text("Not kept")
    assert float(line.get_attribute("x1")) > low
    page.locator("#rate").fill("8")
    page.get_by_label("Unsure band").select_option("0.8")
    expect(statement).to_contain_text("unsure")
    page.locator("#promise [name=why]").fill("fewer escapes")
    page.get_by_role("button", name="Use this threshold").click()
    expect(page.locator(".note")).to_contain_text("judges from now on")
    with served.station.database.read() as session:
        model = session.get_one(Line, 1).model
        assert (model.how, model.why, model.summary["false_reject_rate"]) == ("set", "fewer escapes", 0.2)
    assert page.complaints == []


def test_a_region_is_drawn_by_keys_and_mouse_and_the_next_training_takes_it(open_page, served):
    page = open_page("/verdict")
    expect(page.locator("#region-image")).to_be_visible()
    page.wait_for_function("document.getElementById('region-image').complete")
    drawing = page.locator("#region-svg")
    drawing.focus()
    for keys in (
        ["Shift+ArrowLeft"] * 2 + ["Shift+ArrowUp"] * 2,
        ["Shift+ArrowRight"] * 4,
        ["Shift+ArrowDown"] * 4,
        ["Shift+ArrowLeft"] * 4,
    ):
        for key in keys:
            page.keyboard.press(key)
        page.keyboard.press("Enter")
    page.keyboard.press("c")
    expect(page.locator("#region-list button")).to_have_count(1)
    page.get_by_label("Do not look here").check()
    box = drawing.bounding_box()
    for x, y in ((0.05, 0.05), (0.2, 0.05), (0.2, 0.2), (0.05, 0.05)):  # the first corner closes it
        drawing.click(position={"x": x * box["width"], "y": y * box["height"]})
    expect(page.locator("#region-list button")).to_have_count(2)
    page.get_by_role("button", name="Save for the next training").click()
    expect(page.locator(".note")).to_contain_text("Saved")
    area = read_region(region_file(served.station, "nuts")).areas[0]
    assert area.include == (((0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7)),)
    assert [
        corner == pytest.approx(wanted, abs=0.01)
        for corner, wanted in zip(area.exclude[0], ((0.05, 0.05), (0.2, 0.05), (0.2, 0.2)), strict=True)
    ]
    page.goto("/teach")
    page.get_by_label("Name of the product").fill("nuts")
    page.get_by_label("Name of the product").blur()
    expect(page.locator("#region-used")).to_contain_text("region of interest")
    page.goto("/verdict")
    for _ in range(2):
        page.locator("#region-list button").first.click()
        page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Save for the next training").click()
    until(lambda: region_file(served.station, "nuts") is None)


def test_images_are_counted_and_refused_while_they_come(open_page, good, defects, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    page = open_page("/teach")
    page.locator("#drop input").first.set_input_files([*good, tmp_path / "notes.png"])
    expect(page.locator("#set-count")).to_have_text("3")
    expect(page.locator("#set-refused")).to_have_text("1")
    expect(page.locator("#refused")).to_contain_text("notes.png")
    expect(page.locator("#set-size")).to_have_text("512 \u00d7 512")
    expect(page.locator("#needs")).to_have_text("3 images. A false-reject rate of 1% needs at least 99: 96 more.")
    page.reload()
    expect(page.locator("#set-count")).to_have_text("3")
    expect(page.locator("#go")).to_be_enabled()


def test_a_check_names_what_it_finds(open_page, good, defects):
    page = open_page("/teach")
    page.locator("#drop input").first.set_input_files([good[0], good[0], defects[0]])
    expect(page.locator("#set-count")).to_have_text("3")
    page.get_by_role("button", name="Check the images").click()
    expect(page.locator("#job-state")).to_have_text("Done", timeout=120_000)
    expect(page.locator("#found")).to_contain_text("3 images checked")
    assert page.locator(".suspects small").count() >= 1
    assert page.complaints == []


def test_progress_survives_a_reload_and_a_job_can_be_stopped(open_page, served):
    station = served.station

    def change(number, **fields):
        with station.database.begin() as session:
            job = session.get_one(Job, number)
            for name, value in fields.items():
                setattr(job, name, value)
        station.hub.publish("job", job_dict(job))

    with station.database.begin() as session:
        wanted = {"name": "nuts", "false_reject_rate": 0.01, "confidence": None, "command": []}
        session.add(job := Job(kind="train", who="admin", state=JobState.running, wanted=wanted))
        session.flush()
        number = job.id
    page = open_page("/teach")
    expect(page.locator("#job-title")).to_have_text("Training of nuts")
    change(number, progress=0.4, step="Choosing patches")
    next_one = {**job_dict(job), "id": number + 1, "state": "waiting", "wanted": {"name": "bolts"}}
    station.hub.publish("job", next_one)  # there is none in the database, where it would begin
    expect(page.locator("#queue li")).to_contain_text("Training of bolts")
    expect(page.locator("#job-title")).to_have_text("Training of nuts")
    station.hub.publish("job", {**next_one, "state": "stopped"})
    expect(page.locator("#queue-box")).to_be_hidden()
    expect(page.locator("#job-step")).to_have_text("Choosing patches · 40%")
    page.reload()
    expect(page.locator("#job-step")).to_have_text("Choosing patches · 40%")
    assert page.locator("#bar").evaluate("one => one.value") == 0.4
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#job-state")).to_have_text("Stopped")
    with station.database.read() as session:
        model = session.query(Model).order_by(Model.id).first()
    found = {
        "model_id": model.id,
        "version": model.version,
        "images": 10,
        "threshold": 12.5,
        "bank_rows": 99,
        "skipped": [],
    }
    change(number, state=JobState.done, found=found)
    expect(page.locator("#found")).to_contain_text("nuts 1 is ready")
    expect(page.locator("#found")).to_contain_text("more good parts are needed")
    assert page.complaints == []


def test_a_version_is_tried_as_shadow_compared_activated_and_rolled_back(open_page, served, model_file, defects):
    page = open_page("/models")
    page.get_by_role("button", name="Import a model").click()
    page.locator("#import [name=file]").set_input_files(model_file)
    page.locator("#import [name=name]").fill("other")
    page.locator("#import").get_by_role("button", name="Import").click()
    row = page.locator("#versions > li", has_text="other 1")
    row.get_by_role("button", name="Try as shadow").click()
    page.locator("#act [name=why]").fill("is it better?")
    page.get_by_role("button", name="Yes, do it").click()
    expect(page.locator("#compare-title")).to_contain_text("other 1 as shadow")
    number = served.inspect(defects[0], "both judge")["id"]

    def judged():
        with served.station.database.read() as session:
            return session.get_one(Inspection, number).shadow

    until(judged)
    page.reload()
    expect(page.locator("#compared")).to_contain_text("1 of 1 parts have the same verdict")
    page.get_by_role("button", name="End the shadow").click()
    expect(page.locator("#compare")).to_be_hidden()
    row.get_by_role("button", name="Compare").click()
    expect(page.locator("#paired .matrix")).to_be_visible(timeout=60_000)
    expect(page.locator("#paired")).to_contain_text("parts have the same verdict")
    expect(page.locator("#paired")).to_contain_text(re.compile("learned the same|Recipe: false_reject_rate"))
    row.get_by_role("button", name="Use this version").click()
    page.get_by_role("button", name="Yes, do it").click()
    expect(row.locator(".tag")).to_have_text("In use on main")
    page.locator("#versions > li", has_text="nuts 1").get_by_role("button", name="Use this version").click()
    page.get_by_role("button", name="Yes, do it").click()
    expect(page.locator("#lines")).to_contain_text("nuts 1")
    assert page.complaints == []


def test_a_folder_is_connected_to_a_line_and_what_comes_is_shown(open_page, served, good):
    folder = served.settings.roots[0] / "in"
    folder.mkdir()
    page = open_page("/lines")
    card = page.locator(".line-card")
    card.locator("[name=kind]").select_option("folder")
    card.get_by_role("button", name="Connect").click()
    expect(card.locator("[data-of=path] .fault")).to_have_text("This is needed.")
    card.get_by_label("Folder on the station").fill(str(folder.parent.parent))
    card.get_by_label("Part id in the file's name").fill("SN[0-9]+")
    card.get_by_role("button", name="Connect").click()
    expect(card.locator("[data-of=part] .fault")).to_contain_text("one pair of brackets")
    expect(card.get_by_label("Part id in the file's name")).to_be_focused()
    card.get_by_label("Part id in the file's name").fill("SN([0-9]+)")
    card.get_by_role("button", name="Connect").click()
    expect(card.locator("[data-of=path] .fault")).to_contain_text("in none of the folders that the station may read")
    card.get_by_label("Folder on the station").fill(str(folder))
    card.get_by_role("button", name="Connect").click()
    expect(card.locator(".state")).to_have_text("Running")
    shutil.copy(good[0], folder / "SN42-from-folder.jpg")
    page.goto("/inspect")
    expect(page.locator("#told")).to_have_text("42", timeout=20_000)
    page.goto("/lines")
    card.get_by_role("button", name="Switch off").click()
    expect(card.locator(".state")).to_have_text("Off")
    page.get_by_label("New line").fill("press 2")
    page.locator("#add button").click()
    expect(card).to_have_count(2)
    with served.station.database.begin() as session:
        session.query(Line).filter(Line.name == "press 2").delete()
    assert [one for one in page.complaints if "422" not in one] == []


def test_a_camera_with_a_trigger_is_set_and_shown_again(open_page, served):
    page = open_page("/lines")
    card = page.locator(".line-card")
    card.locator("summary").first.click()
    card.locator("[name=kind]").select_option("camera")
    expect(card.get_by_label("PLC", exact=True)).to_be_hidden()
    card.get_by_label("Camera", exact=True).fill("http://127.0.0.1:9/stream")
    card.get_by_label("Seconds between two images").fill("")
    card.get_by_label("Trigger", exact=True).select_option("modbus")
    card.get_by_label("PLC", exact=True).fill("not a host")
    card.get_by_label("Address of the trigger").fill("70000")
    card.get_by_role("button", name="Connect").click()
    expect(card.locator("[data-of='trigger.address'] .fault")).to_have_text("At most 65,535.")
    card.get_by_label("Address of the trigger").fill("3")
    card.get_by_role("button", name="Connect").click()
    expect(card.locator("[data-of='trigger.host'] .fault")).to_have_text("Neither the name of a host nor an address.")
    card.get_by_label("PLC", exact=True).fill("127.0.0.1")
    card.get_by_label("Port of the PLC").fill("9")
    card.get_by_text("More settings").click()
    card.get_by_label("Images to leave out after a trigger").fill("2")
    card.get_by_role("button", name="Connect").click()
    expect(card.locator("summary").first).to_contain_text("camera http://127.0.0.1:9/stream")
    with served.station.database.read() as session:
        source = session.get_one(Line, 1).source
    trigger = {"kind": "modbus", "host": "127.0.0.1", "port": 9, "unit": 1, "table": "coil", "address": 3}
    camera = {"kind": "camera", "address": "http://127.0.0.1:9/stream", "every": None, "flush": 2, "silence": 3.0}
    assert source == {**camera, "trigger": {**trigger, "answer": None, "every": 0.02}}
    expect(card.locator(".state")).to_have_text("Lost", timeout=20_000)
    expect(card.locator(".why-not")).to_contain_text("The camera is lost")
    card.locator("summary").first.click()
    expect(card.get_by_label("PLC", exact=True)).to_have_value("127.0.0.1")
    expect(card.get_by_label("Seconds between two images")).to_have_value("")
    card.locator("[name=kind]").select_option("none")
    card.get_by_role("button", name="Connect").click()
    expect(card.locator(".state")).to_have_text("Off")
    assert [one for one in page.complaints if "422" not in one] == []


def test_an_output_is_added_changed_and_removed_by_its_fields(open_page, served):
    page = open_page("/lines", width=390)
    page.get_by_label("Kind of output").select_option("webhook")
    page.get_by_role("button", name="Add an output").click()
    form = page.locator("#output-form")
    form.get_by_label("Name", exact=True).fill("mes")
    form.get_by_label("Web address").fill("mes.example/hook")
    form.get_by_label("Secret").fill("too short")
    form.get_by_role("button", name="Save").click()
    expect(form.locator("[data-of=secret] .fault")).to_have_text("At least 16 characters.")
    form.get_by_label("Secret").fill("0123456789abcdef")
    form.get_by_role("button", name="Save").click()
    expect(form.locator("[data-of=url] .fault")).to_contain_text("must begin with http://")
    expect(form.get_by_label("Web address")).to_be_focused()
    form.get_by_label("Web address").fill("http://127.0.0.1:9/hook")
    form.get_by_label("PASS").uncheck()
    if AXE.exists():
        assert violations(page) == []
    form.get_by_role("button", name="Save").click()
    row = page.locator("#outputs li")
    expect(row).to_contain_text("http://127.0.0.1:9/hook")
    assert served.station.outputs.specs[0].verdicts == ("unsure", "fail")
    row.get_by_role("button", name="Change").click()
    form.get_by_text("More settings").click()
    form.get_by_label("Give a message up after").fill("48")
    form.get_by_role("button", name="Save").click()
    until(lambda: [one.hours for one in served.station.outputs.specs] == [48])
    assert served.station.outputs.specs[0].secret == "0123456789abcdef"
    page.get_by_role("button", name="Add an output").click()
    form.get_by_label("Name", exact=True).fill("mes")
    form.get_by_label("Web address").fill("https://other.example/")
    form.get_by_label("Secret").fill("0123456789abcdef")
    form.get_by_role("button", name="Save").click()
    expect(form.locator("[data-of=name] .fault")).to_have_text("Another output has the name mes.")
    form.get_by_role("button", name="Cancel").click()
    row.get_by_role("button", name="Remove").click()
    page.locator("#remove").get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)
    assert served.station.outputs.specs == ()
    assert [one for one in page.complaints if "422" not in one] == []


def test_watch_shows_yield_and_an_alarm_with_its_advice(open_page, served):
    page = open_page("/watch")
    expect(page.locator("#yield svg")).to_have_count(2)
    expect(page.locator("#health b")).to_have_text("Works")
    alarm = {
        "what": "sharpness",
        "before": 1.0,
        "now": 0.4,
        "since": "7.png",
        "advice": "Look at the lens.",
        "number": 9,
        "image": "9.png",
        "since_number": 7,
        "spreads": 8.0,
    }
    served.station.watching._keep({"line": "main", "time": "2026-01-01T00:00:00+00:00", **alarm})
    expect(page.locator("#alarms")).to_contain_text("Sharpness: 1 before, 0.4 now")
    expect(page.locator("#alarms")).to_contain_text("Look at the lens.")
    page.get_by_role("button", name="The line is in order again").click()
    expect(page.locator("#alarms li.seen")).to_contain_text("seen to by admin")
    served.station.hub.publish("trouble", {"line": 1, "text": "No disk.", "code": "", "values": {}})
    expect(page.locator("#trouble")).to_have_text("No disk.")
    assert page.complaints == []


def test_the_page_carries_its_texts_where_nothing_can_run(open_page, served):
    page = open_page("/inspect")
    answer = page.request.get("/inspect")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not re.search("unsafe|data:", policy)
    html = answer.text()
    assert not re.search(r"<script(?![^>]*(?:src=|application/json))|<style| style=|\son[a-z]+=", html)
    held = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', html, re.S)[1]
    assert json.loads(held)["texts"]["verdict.pass"] == "PASS"
    place = re.search(r'src="(/static/[^"]+)"', html)[1]
    assert "immutable" in page.request.get(place).headers["cache-control"]
    for wrong in ("/static/x/..%2f..%2froutes.py", "/static/x/routes.py"):
        assert page.request.get(wrong).status == 404
