"""The report in a real browser: pages, tables, the brain that turns, widths, and what those need who do not see it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

PAGES = ("overview", "study", "quality", "models", "evaluation", "federation", "synthesis", "runtime", "lineage")
Visit = Callable[..., Any]
# rows are all made alike, and axe takes minutes for thousands of cells
PREPARE = """
for (const item of document.querySelectorAll('.shown details')) item.open = true;
for (const row of document.querySelectorAll('.table tbody tr:nth-child(n + 3), .file:nth-of-type(n + 4)')) row.remove();
"""


def find(driver: Any, css: str) -> Any:
    return driver.find_element("css selector", css)


def shown(driver: Any) -> list[str]:
    """Pages that can be seen."""
    return driver.execute_script(
        "return [...document.querySelectorAll('.page')].filter(p => p.offsetHeight).map(p => p.id)"
    )


def column(driver: Any, label: str, at: int) -> list[str]:
    """Texts of a column of the rows that can be seen."""
    rows = f"document.querySelector('table[aria-label=\"{label}\"]').tBodies[0].rows"
    return driver.execute_script(f"return [...{rows}].filter(r => !r.hidden).map(r => r.cells[{at}].textContent)")


def turn_of(driver: Any) -> tuple[float, float]:
    turn, tilt = driver.execute_script("return document.querySelector('.brain').dataset.turn ?? ''").split()
    return float(turn), float(tilt)


def wait_for_brain(driver: Any) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    driver.execute_script("document.getElementById('brain').scrollIntoView()")
    started = "return !!document.querySelector('.brain').dataset.turn"
    WebDriverWait(driver, 10).until(lambda _: driver.execute_script(started))
    return find(driver, ".brain canvas")


def test_it_opens_without_an_error_and_asks_the_network_for_nothing(visit: Visit) -> None:
    driver = visit()
    for page in PAGES:
        driver.execute_script(f"location.hash = '#{page}'")
    wait_for_brain(visit("synthesis"))
    assert [entry["message"] for entry in driver.get_log("browser")] == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert sent
    assert [address for address in sent if not address.startswith(("file:", "data:", "about:"))] == []
    assert len({address for address in sent if address.startswith("file:")}) == 1, "the page itself"


def test_one_page_is_shown_and_the_way_back_works(visit: Visit) -> None:
    driver = visit()
    assert shown(driver) == ["overview"]
    find(driver, "nav a[href='#evaluation']").click()
    assert shown(driver) == ["evaluation"]
    assert find(driver, "nav [aria-current]").text == "Evaluation"
    assert driver.switch_to.active_element.text == "Evaluation"
    driver.back()
    assert shown(driver) == ["overview"]
    assert shown(visit("quarantine")) == ["study"], "a place shows the page that it is on"


def test_a_number_of_the_first_screen_leads_to_its_page_and_lineage(visit: Visit, study: Path) -> None:
    driver = visit()
    headline = pd.read_parquet(study / "tables" / "headline.parquet")
    row = headline[headline["section"] == "synthesis"].iloc[0]
    link = find(driver, ".findings tbody:last-of-type a b")
    assert link.text == f"{row['score']:.2f}"
    link.click()
    assert shown(driver) == ["synthesis"]
    driver.back()
    find(driver, f".findings a[href='#lineage-{row['table']}']").click()
    assert shown(driver) == ["lineage"]
    entry = find(driver, f"#lineage-{row['table']}")
    assert "collect_tables" in entry.text
    assert f"neuroloom lineage {study}/tables/{row['table']}.parquet" in entry.text
    assert 0 <= driver.execute_script("return arguments[0].getBoundingClientRect().top", entry) < 200


def test_links_lead_to_files_that_are_there(visit: Visit, study: Path) -> None:
    driver = visit()
    links = driver.execute_script("return [...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    files = {link for link in links if not link.startswith("#")}
    tables = {f"tables/{path.name}" for path in (study / "tables").glob("*.parquet")}
    assert {link for link in files if link.startswith("tables/")} == tables
    drawn = {link for link in files if link.startswith("figures/") and "/tables/" not in link}
    assert drawn == {f"figures/{path.name}" for path in (study / "figures").glob("*.*")}
    places = driver.execute_script("return [...document.querySelectorAll('[id]')].map(e => '#' + e.id)")
    assert {link for link in links if link.startswith("#")} <= set(places)
    assert len(places) == len(set(places))


def test_tables_sort_by_a_column_and_what_is_unknown_comes_last(visit: Visit) -> None:
    from selenium.webdriver.common.keys import Keys

    driver = visit("runtime")
    head = find(driver, "#runtime th:nth-child(2)")
    button = head.find_element("css selector", "button")
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    seconds = [float(text) for text in column(driver, "Run time and memory by rule", 1)]
    assert seconds == sorted(range(12)), "by value: 10 comes after 9"
    button.send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in column(driver, "Run time and memory by rule", 1)] == seconds[::-1]
    visit("synthesis")
    for way in (1, -1):
        find(driver, "table[aria-label='Models of synthesis beside their nulls'] th:nth-child(4) button").click()
        texts = column(driver, "Models of synthesis beside their nulls", 3)
        known = [float(text) for text in texts if text != "n/a"]
        assert texts[len(known) :] == ["n/a"] * (len(texts) - len(known))
        assert known == sorted(known, reverse=way < 0)
        assert len(known) < len(texts)


def test_rows_are_filtered_by_all_words(visit: Visit) -> None:
    driver = visit("evaluation")
    field = find(driver, "input[aria-label='Filter rows: Readers by task']")
    field.send_keys("riemann 0.25")
    assert column(driver, "Readers by task", 1) == ["Riemann"]
    assert "1 of 32 rows" in find(driver, "#evaluation .tools").text
    field.clear()
    field.send_keys(" ")
    assert len(column(driver, "Readers by task", 1)) == 32


def test_the_brain_turns_by_keys_and_tells_its_values(visit: Visit, study: Path) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    driver = visit("synthesis")
    canvas = wait_for_brain(driver)
    pixels = "return document.querySelector('.brain canvas').toDataURL()"
    before, drawn = turn_of(driver), driver.execute_script(pixels)
    canvas.send_keys(Keys.ARROW_LEFT)
    assert turn_of(driver)[0] > before[0]
    assert driver.execute_script(pixels) != drawn
    canvas.send_keys(Keys.ARROW_DOWN)
    assert turn_of(driver)[1] > before[1]
    turned = turn_of(driver)
    ActionChains(driver).click_and_hold(canvas).move_by_offset(60, 0).release().perform()
    assert turn_of(driver)[0] < turned[0], "what is near goes with the hand"
    Select(find(driver, ".brain [data-parcel]")).select_by_visible_text("left 01")
    name = Select(find(driver, ".brain [data-map]")).first_selected_option.text
    parcels = pd.read_parquet(study / "tables" / "synthesis_parcels.parquet")
    own = parcels[(parcels["parcel"] == "left 01") & (parcels["model"] == name.split(",")[0])]
    r = own.set_index("target")["r"]
    beyond = r["measured"] - r.drop("measured").max()
    told = find(driver, ".brain output").text
    assert f"r {r['measured']:.2f}, minus its highest null {beyond:.2f}" in told


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_no_page_is_wider_than_the_screen(visit: Visit, tmp_path: Path, width: int, height: int) -> None:
    for page in PAGES:
        driver = visit(page, width, height)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width, page
        picture = tmp_path / f"{page}.png"
        assert driver.save_screenshot(str(picture))
        assert picture.stat().st_size > 8000, "a blank page is smaller"


def test_what_came_out_and_what_was_lost_stand_on_the_first_screen(visit: Visit) -> None:
    driver = visit()
    for what in (".facts", ".findings tbody:last-of-type", ".lost"):
        bottom = driver.execute_script("return arguments[0].getBoundingClientRect().bottom", find(driver, what))
        assert bottom <= 800, what
    assert "the file is truncated" in find(driver, ".lost").text


def test_all_pages_are_there_without_a_script_and_in_print(visit: Visit) -> None:
    driver = visit()
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert shown(driver) == list(PAGES)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        visit()
        seen = [find(driver, f"#{page}").is_displayed() for page in PAGES]
        fields = [field.is_displayed() for field in driver.find_elements("css selector", ".tools")]
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert all(seen)
    assert not any(fields), "what needs a script is not offered without one"


@pytest.mark.parametrize(("width", "pages"), [(1280, PAGES), (390, ("overview", "synthesis"))])
def test_axe_finds_nothing_serious(visit: Visit, width: int, pages: tuple[str, ...]) -> None:
    from axe_core_python.selenium import Axe

    for page in pages:
        driver = visit(page, width)
        if page == "synthesis":
            wait_for_brain(driver)
        driver.execute_script(PREPARE)
        found = Axe().run(driver)["violations"]
        told = [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")]
        assert told == [], page
        assert {one["id"] for one in found} <= {"region"}, page
