"""The form of a model: its controls, and the prediction that follows them."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper
from playwright.sync_api import expect

from service.bundle.features import (
    CategoryFeature,
    DatetimeFeature,
    FeaturesInput,
    FeatureStatistics,
    Range,
)
from service.bundle.manifest import (
    Examples,
    Interval,
    IntervalLevel,
    Tensor,
    Tolerance,
    ValueOutput,
)
from tests.browser import OpenPage
from tests.conftest import Serve, ShippedClient
from tests.models import (
    assembled,
    examples,
    graph,
    manifest,
    number,
    publish,
    publish_admission,
    publish_bare,
    publish_iris,
    publish_mixed,
    sum_and_difference,
)
from tests.page.views import (
    card,
    expect_response,
    field,
    open_model,
    predict,
    set_number,
    shown_response,
)

TYPED = {
    "1650,5": 1650.5,
    "0,125": 0.125,
    "1.650": 1.65,
    "1,650.5": 1650.5,
    "1.650,5": 1650.5,
    "1\u202f650,25": 1650.25,
    "1\u2019650": 1650,
    "1,234,567": 1_234_567,
    "\u22122,5": -2.5,
    "2.5e3": 2500,
    " 7 ": 7,
}
NO_NUMBERS = {
    "": "Enter a number, such as 50.",
    "abc": "Enter a number, such as 50.",
    "50 m\u00b2": "Enter a number, such as 50.",
    "1,650": "Enter 1650 or 1.65: \u201c1,650\u201d can be either.",
    "1e400": "Enter a number that is not so large, such as 50.",
}
CITIES = [f"city {number}" for number in range(40)]


def publish_rent(models: Path) -> None:
    """Publish ``value = 2 size`` euros with intervals of 10 and of 20 around it."""
    levels = [IntervalLevel(level=0.5, margins=[10]), IntervalLevel(level=0.9, margins=[20])]
    interval = Interval(scale="value", source="validation", rows=100, edges=[], levels=levels)
    statistics = FeatureStatistics(
        mean=60, standard_deviation=30, deciles=[10, 20, 30, 40, 45, 50, 60, 80, 90, 100, 110]
    )
    trained = Range(minimum=10, maximum=110)
    features = [number("size", unit="m²", trained=trained, example=50, statistics=statistics)]
    output = ValueOutput(kind="value", name="rent", unit="euros", interval=interval)
    rent = manifest("rent", list(features), output)
    rows = [[1.0], [2.0]]
    publish(models, rent, graph([[2.0]], [0.0], "value"), examples(rows, [[2.0], [4.0]], rent))


def publish_trip(models: Path) -> None:
    """Publish a value of a date and of one of 40 categories: ``days + 1000 city``."""
    day = DatetimeFeature(
        name="day",
        type="datetime",
        format="DD.MM.YYYY",
        trained=Range(minimum=0, maximum=365),
        example="02.01.1970",
    )
    city = CategoryFeature(name="city", type="category", categories=CITIES, example=CITIES[0])
    table = FeaturesInput(kind="features", datatype="FP64", features=[day, city])
    plain = manifest("trip", [number("day")], ValueOutput(kind="value", name="price"))
    trip = plain.model_copy(update={"input": table})
    weights = helper.make_tensor("weights", TensorProto.DOUBLE, [2, 1], [1.0, 1000.0])
    model = assembled(
        [
            helper.make_node("MatMul", ["features", "weights"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["value"], to=TensorProto.FLOAT),
        ],
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["batch", 2])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 1])],
        [weights],
    )
    self_test = Examples(
        input=Tensor(name="features", datatype="FP64", shape=[1, 2], data=[2.0, 3.0]),
        output=Tensor(name="value", shape=[1, 1], data=[3002.0]),
        tolerance=Tolerance(absolute=1e-9, relative=0),
    )
    publish(models, trip, model, self_test)


def publish_columns(models: Path) -> None:
    """Publish a graph without a manifest whose inputs are columns: ``total = a + b``."""
    column = helper.make_tensor_value_info
    inputs = [column(name, TensorProto.FLOAT, ["rows", 1]) for name in "ab"]
    outputs = [column("total", TensorProto.FLOAT, ["rows", 1])]
    add = helper.make_node("Add", ["a", "b"], ["total"])
    publish_bare(models, "columns", assembled([add], inputs, outputs, []))


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A service with the models of these tests."""

    def publish_all(models: Path) -> None:
        publish_admission(models)
        publish_mixed(models)
        publish_iris(models)
        publish_rent(models)
        publish_trip(models)
        publish_columns(models)
        publish_bare(models, "tensors", sum_and_difference())

    return serve(publish_all)


def test_the_form_begins_with_the_example(open_page: OpenPage, client: httpx.Client) -> None:
    """The page predicts from the example of the manifest as soon as it is open."""
    page = open_model(open_page, client, "admission")

    expect_response(page, predict(client, "admission", {"exam_1": 61, "exam_2": 74}))
    expect(card(page, "Prediction")).to_contain_text("admitted")


def test_a_slider_changes_the_prediction(open_page: OpenPage, client: httpx.Client) -> None:
    """The number follows the slider, and the prediction is that of the endpoint."""
    page = open_model(open_page, client, "admission")
    page.get_by_role("slider", name="exam_1").fill("200")

    expected = predict(client, "admission", {"exam_1": 20, "exam_2": 74})

    expect(field(page, "exam_1").get_by_role("spinbutton")).to_have_value("20")
    expect_response(page, expected)
    result = card(page, "Prediction")
    expect(result.locator(".headline-value")).to_have_text("not admitted")
    expect(result.get_by_role("listitem").filter(has_text="not admitted")).to_contain_text(
        f"{100 * expected['probabilities']['not admitted']:.1f}"
    )


def test_keys_move_a_slider_by_a_step(open_page: OpenPage, client: httpx.Client) -> None:
    """Each arrow key changes the value, even if many positions round to the same one."""
    page = open_model(open_page, client, "admission")
    slider = page.get_by_role("slider", name="exam_1")
    entry = field(page, "exam_1").get_by_role("spinbutton")
    slider.press("ArrowRight")
    expect(entry).to_have_value("61.5")
    slider.press("PageDown")
    expect(entry).to_have_value("56.5")
    slider.press("End")
    expect(entry).to_have_value("100")


def test_numbers_are_read_as_people_type_them(open_page: OpenPage, client: httpx.Client) -> None:
    """A comma is a decimal mark or a thousands mark, and the request has the number."""
    page = open_model(open_page, client, "rent")
    entry = field(page, "size").get_by_role("spinbutton")
    for typed, size in TYPED.items():
        entry.fill("")
        entry.press_sequentially(typed)

        expect_response(page, predict(client, "rent", {"size": size}, "?interval=0.9"))
        expect(entry).to_have_attribute("aria-valuenow", f"{size:.10g}")


def test_what_is_no_number_is_not_sent(open_page: OpenPage, client: httpx.Client) -> None:
    """The field says what to enter, until it is corrected."""
    page = open_model(open_page, client, "rent")
    expect_response(page, predict(client, "rent", {"size": 50}, "?interval=0.9"))
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    entry = field(page, "size").get_by_role("spinbutton")
    alert = card(page, "Prediction").get_by_role("alert")
    for typed, sentence in NO_NUMBERS.items():
        entry.fill(typed)
        expect(field(page, "size").locator(".field-error")).to_have_text(sentence)
        expect(entry).to_have_attribute("aria-invalid", "true")
        expect(alert).to_have_text("Correct the marked input.")
    set_number(page, "size", 60)

    expect_response(page, predict(client, "rent", {"size": 60}, "?interval=0.9"))
    expect(field(page, "size").locator(".field-error")).to_be_hidden()
    expect(alert).to_be_hidden()
    assert {json.loads(body)["size"] for body in sent if body.startswith('{"size"')} <= {50, 60}


def test_arrow_keys_step_a_typed_number(open_page: OpenPage, client: httpx.Client) -> None:
    """They change it by one within the allowed range, and the slider follows."""
    page = open_model(open_page, client, "admission")
    entry = field(page, "exam_1").get_by_role("spinbutton")
    entry.fill("98,7")
    entry.press("ArrowUp")
    expect(entry).to_have_value("99.7")
    entry.press("ArrowUp")
    expect(entry).to_have_value("100")
    expect(page.get_by_role("slider", name="exam_1")).to_have_value("1000")
    entry.press("ArrowDown")

    expect_response(page, predict(client, "admission", {"exam_1": 99, "exam_2": 74}))


def test_choices_change_the_prediction(open_page: OpenPage, client: httpx.Client) -> None:
    """Categories, booleans and missing values are sent as the endpoint reads them."""
    page = open_model(open_page, client, "mixed")
    field(page, "quarter").get_by_text("south").click()
    field(page, "garden").get_by_text("No", exact=True).click()
    field(page, "color").get_by_text("missing").click()
    page.get_by_label("size is missing").check()

    row = {"size": None, "rooms": 3, "garden": False, "quarter": "south", "color": None}
    expect_response(page, predict(client, "mixed", row))


def test_reset_returns_to_the_example(open_page: OpenPage, client: httpx.Client) -> None:
    """All controls have the values of the manifest again."""
    page = open_model(open_page, client, "mixed")
    page.get_by_label("size is missing").check()
    field(page, "quarter").get_by_text("south").click()
    page.get_by_role("button", name="Reset").click()

    row = {"size": 1.0, "rooms": 3, "garden": True, "quarter": "north", "color": "red"}
    expect_response(page, predict(client, "mixed", row))


def test_random_examples_are_valid(open_page: OpenPage, client: httpx.Client) -> None:
    """They come from the ranges and categories of the training set."""
    page = open_model(open_page, client, "trip")
    for _ in range(3):
        page.get_by_role("button", name="Random example").click()
        row = {
            "day": page.get_by_label("day", exact=True).last.input_value(),
            "city": field(page, "city").get_by_role("combobox").input_value(),
        }
        expect_response(page, predict(client, "trip", row))


def test_the_interval_is_shown_at_the_chosen_level(
    open_page: OpenPage, client: httpx.Client
) -> None:
    """The page requests an interval where the model has one."""
    page = open_model(open_page, client, "rent")
    result = card(page, "Prediction")
    expect(result).to_contain_text("80 to 120\u00a0euros in 90\u202f% of cases")

    result.get_by_role("combobox", name="Interval").select_option("0.5")

    expect_response(page, predict(client, "rent", {"size": 50}, "?interval=0.5"))
    expect(result.get_by_role("img")).to_have_accessible_name(
        "100\u00a0euros, interval 90 to 110\u00a0euros in 50\u202f% of cases"
    )


def test_a_threshold_other_than_a_half_is_shown(
    open_page: OpenPage, client: httpx.Client, shipped_client: ShippedClient
) -> None:
    """A label may be predicted with less than half of the probability: the card says from where."""
    page = open_model(open_page, shipped_client, "churn")
    output = shipped_client.get("/models/churn").json()["output"]
    bars = card(page, "Prediction").get_by_role("list", name="Class probabilities")
    mark = bars.locator(".bar-threshold")

    expect(card(page, "Prediction")).to_contain_text(
        f"Yes from {100 * output['threshold']:.1f}\u202f% on (the model\u2019s threshold)."
    )
    expect(mark).to_have_count(1)
    yes = bars.get_by_role("listitem").filter(has_text="Yes")
    expect(yes.locator(".bar-threshold")).to_have_count(1)
    assert mark.evaluate("mark => parseFloat(mark.style.left)") == pytest.approx(
        100 * output["threshold"]
    )
    page = open_model(open_page, client, "admission")
    expect(card(page, "Prediction").get_by_role("listitem")).to_have_count(2)
    expect(card(page, "Prediction")).not_to_contain_text("threshold")


def test_a_curve_shows_one_feature_over_its_range(
    open_page: OpenPage, client: httpx.Client
) -> None:
    """Its ends are the predictions at the ends of the range, and a click uses a value."""
    page = open_model(open_page, client, "rent")
    curve = card(page, "What if")
    low, high = (predict(client, "rent", {"size": size})["value"] for size in (10, 110))

    expect(curve.get_by_role("img")).to_have_accessible_name(
        f"Prediction by size; at 10\u00a0m²: rent {low:.0f}\u00a0euros; "
        f"at 110\u00a0m²: rent {high:.0f}\u00a0euros"
    )
    curve.get_by_role("img").click()
    expect(field(page, "size").get_by_role("spinbutton")).not_to_have_value("50")
    size = float(field(page, "size").get_by_role("spinbutton").input_value())
    expect_response(page, predict(client, "rent", {"size": size}, "?interval=0.9"))


def test_a_curve_has_a_line_for_each_class(open_page: OpenPage, client: httpx.Client) -> None:
    """The feature that was changed last is the one that varies."""
    page = open_model(open_page, client, "admission")
    set_number(page, "exam_2", 80)
    curve = card(page, "What if")

    expect(curve.get_by_label("vary")).to_have_value("exam_2")
    at_zero = predict(client, "admission", {"exam_1": 61, "exam_2": 0})["probabilities"]
    at_end = predict(client, "admission", {"exam_1": 61, "exam_2": 100})["probabilities"]
    assert at_zero["admitted"] < 1e-4
    expect(curve.get_by_role("img")).to_have_attribute(
        "aria-label",
        f"Prediction by exam_2; at 0\u00a0points: admitted <0.01\u202f%; "
        f"at 100\u00a0points: admitted {100 * at_end['admitted']:.2f}\u202f%",
    )


def test_bars_compare_the_categories(open_page: OpenPage, client: httpx.Client) -> None:
    """Each bar is the prediction for a category, and a click uses it."""
    page = open_model(open_page, client, "mixed")
    curve = card(page, "What if")
    curve.get_by_label("vary").select_option("quarter")

    expect(curve.get_by_role("button", name="north")).to_contain_text("13")
    south = curve.get_by_role("button", name="south")
    expect(south).to_contain_text("113")
    south.click()
    expect(field(page, "quarter").get_by_label("south")).to_be_checked()


def test_contributions_are_those_of_the_endpoint(open_page: OpenPage, client: httpx.Client) -> None:
    """Each feature has a signed bar with its number."""
    page = open_model(open_page, client, "admission")
    row = {"exam_1": 90, "exam_2": 20}
    for feature, value in row.items():
        set_number(page, feature, value)
    explained = client.post("/models/admission/explain", json=row).json()["explanation"]

    why = card(page, "Why this prediction")
    for feature, contribution in explained["contributions"].items():
        sign = "+" if contribution > 0 else "\u2212"
        item = why.get_by_role("listitem").filter(has_text=feature)
        expect(item).to_contain_text(f"{sign}{abs(contribution):.4g}")


def test_contributions_are_compared_with_the_typical_row(
    open_page: OpenPage, client: httpx.Client
) -> None:
    """The panel has the reference row of the endpoint, and one word for it everywhere."""
    page = open_model(open_page, client, "rent")
    why = card(page, "Why this prediction")
    expect(why).to_contain_text(
        "This row is the typical row that contributions compare with; move a value to see its"
    )
    expect(why).to_contain_text("Compared with a typical row: size 50.")
    expect(why.get_by_role("listitem")).to_have_count(0)

    set_number(page, "size", 90)

    expect(why.get_by_role("listitem")).to_contain_text("size 90 instead of 50")
    expect(why).to_contain_text("Typical row 100, all contributions together +80, this row 180")
    expect(why).to_contain_text("Compared with a typical row: size 50.")
    expect(why).to_contain_text("when the value of this row replaces that of the typical row")
    expect(why).not_to_contain_text("This row is")

    set_number(page, "size", 50.5)
    expect(why).to_contain_text("This row is nearly the typical row")


def test_the_row_that_dates_are_compared_with_is_that_of_the_form(
    open_page: OpenPage, client: httpx.Client
) -> None:
    """Its dates are in the format of the form, so that the same date is the same text."""
    page = open_model(open_page, client, "trip")
    why = card(page, "Why this prediction")
    expect(why).to_contain_text("This row is the reference row that contributions compare with")

    field(page, "city").get_by_role("combobox").fill("city 2")

    expect(why).to_contain_text("city city 2 instead of city 0")
    expect(why).to_contain_text("Compared with a reference row: day 1970-01-02, city city 0.")


def test_an_error_is_shown_next_to_its_field(open_page: OpenPage, client: httpx.Client) -> None:
    """It is the sentence of the service, and it disappears with the mistake."""
    page = open_model(open_page, client, "admission")
    set_number(page, "exam_1", 140)
    response = client.post("/models/admission/predict", json={"exam_1": 140, "exam_2": 74})
    (problem,) = response.json()["details"]

    expect(field(page, "exam_1")).to_contain_text(problem["sentence"])
    expect(card(page, "Prediction").get_by_role("alert")).to_have_text("Correct the marked input.")
    set_number(page, "exam_1", 40)
    expect(field(page, "exam_1")).not_to_contain_text("must be")
    expect(card(page, "Prediction").get_by_role("alert")).to_be_hidden()


def test_dates_and_long_lists_have_controls(open_page: OpenPage, client: httpx.Client) -> None:
    """A date is sent in ISO 8601, and the categories are suggestions of a text field."""
    page = open_model(open_page, client, "trip")
    expect_response(page, predict(client, "trip", {"day": "1970-01-02", "city": "city 0"}))
    field(page, "day").get_by_label("day", exact=True).nth(1).fill("1970-02-01")
    field(page, "city").get_by_role("combobox").fill("city 39")

    expect_response(page, predict(client, "trip", {"day": "1970-02-01", "city": "city 39"}))
    assert field(page, "city").locator("option").count() == len(CITIES)


def test_a_graph_with_columns_has_a_form(open_page: OpenPage, client: httpx.Client) -> None:
    """Its outputs are shown by their names."""
    page = open_model(open_page, client, "columns")
    set_number(page, "a", 2)
    set_number(page, "b", 0.5)

    expect_response(page, predict(client, "columns", {"a": 2, "b": 0.5}))
    expect(card(page, "Prediction")).to_contain_text('"total": 2.5')


def test_a_graph_of_tensors_has_an_editable_request(
    open_page: OpenPage, client: httpx.Client
) -> None:
    """It is valid as it is, and its response appears when it is sent."""
    page = open_model(open_page, client, "tensors")
    page.get_by_role("button", name="Send").click()

    zeros = np.zeros(16, int).tolist()
    expect(page.get_by_label("Response").first).to_contain_text('"OUTPUT1"')
    shown = shown_response(page)
    assert [output["data"] for output in shown["outputs"]] == [zeros, zeros]
    page.get_by_label("Request body").fill("{")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("The request is not JSON")
