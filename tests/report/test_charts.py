"""Drawings: where points fall, and round numbers on the axes."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osteo_models.report.charts import SMALL, Axis, Band, Dot, Line, choose_decades, choose_ticks, draw_chart
from osteo_models.report.sections.patients import Strip, draw_strip, draw_strips

X = Axis("epoch <n>", 0, 10, [0, 5, 10], 0)
Y = Axis("loss", 0, 1, [0, 0.5, 1])


def points(drawing, style):
    path = re.search(rf'class="{style}" d="M([^"Z]+)', drawing).group(1)
    return [tuple(float(part) for part in point.split()) for point in path.split("L")]


def test_points_fall_where_the_ticks_are():
    drawing = draw_chart("loss by epoch", X, Y, [Line([(0, 0), (5, 0.5), (10, 1)], "s-patient")])
    assert points(drawing, "line s-patient") == [(52.0, 258.0), (188.0, 134.0), (324.0, 10.0)]
    assert 'x="188.0"' in drawing
    assert 'y1="134.0"' in drawing


def test_what_lies_beyond_the_axis_is_drawn_at_its_edge():
    drawing = draw_chart("", X, Y, [Line([(0, -3), (10, 7)], "s-patient")])
    assert [y for _, y in points(drawing, "line s-patient")] == [258.0, 10.0]


def test_a_band_lies_below_the_lines_and_is_closed():
    band = Band([(0, 0.2), (10, 0.2)], [(0, 0.6), (10, 0.6)], "s-image")
    drawing = draw_chart("", X, Y, [Line([(0, 0.4), (10, 0.4)], "s-image")], [band], size=SMALL)
    assert len(points(drawing, "band s-image")) == 4
    assert drawing.index("band s-image") < drawing.index("line s-image")
    assert 'viewBox="0 0 260 205"' in drawing


def test_words_are_escaped():
    drawing = draw_chart('a "b" <c>', X, Y, [])
    assert "epoch &lt;n&gt;" in drawing
    assert 'aria-label="a &#34;b&#34; &lt;c&gt;"' in drawing


def test_a_strip_marks_each_score_and_the_threshold():
    strip = draw_strip([0.1, 0.95], 0.5, 1, "two images")
    assert 'd="M10.0 4v12M95.0 4v12"' in strip
    assert 'class="cut" d="M50.0 0v20"' in strip


@given(st.floats(-5, 5), st.floats(0.001, 1000))
def test_ticks_are_round_few_and_cover_the_range(low, width):
    ticks = choose_ticks(low, low + width)
    assert ticks[0] <= low + 1e-6
    assert ticks[-1] >= low + width - width * 1e-6
    assert 2 <= len(ticks) <= 8
    assert all(one < other for one, other in itertools.pairwise(ticks))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 0, [0, 1]), (0.5, 1, [0.5, 0.6, 0.7, 0.8, 0.9, 1])],
)
def test_ticks_of_plain_ranges(low, high, ticks):
    assert choose_ticks(low, high) == ticks


def test_dots_carry_their_words_and_interval():
    dots = [Dot(5, 0.5, "s-patient", "five & <half>", 0.25, 0.75)]
    drawing = draw_chart("", X, Y, dots=dots)
    assert 'cx="188.0" cy="134.0"' in drawing
    assert "<title>five &amp; &lt;half&gt;</title>" in drawing
    assert 'd="M188.0 196.0V72.0"' in drawing
    assert "whisker" not in draw_chart("", X, Y, dots=[Dot(5, 0.5, "s-patient", low=0.25)])


def test_a_logarithmic_axis_gives_factors_equal_room():
    axis = Axis("cost", 1, 100, [1, 10, 100], 0, logarithmic=True)
    drawing = draw_chart("", axis, Y, [Line([(1, 0), (10, 0), (100, 0)], "s-front")])
    places = [x for x, _ in points(drawing, "line s-front")]
    assert places == [52.0, 188.0, 324.0]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(1, 100, [1, 2, 5, 10, 20, 50, 100]), (3, 30, [5, 10, 20]), (0.5, 5000, [1, 10, 100, 1000])],
)
def test_decades(low, high, ticks):
    assert choose_decades(low, high) == pytest.approx(ticks)


def test_strips_have_a_line_per_patient_and_names_while_they_fit():
    few = [Strip("A <b>", 0, [0.2, 0.4], "2 of 2"), Strip("a-long-pseudonym", 1, [0.9], "1 of 1")]
    drawing = draw_strips('scores "of" two', few, 0.5)
    assert drawing.count('class="mean') == 2
    assert "c-control" in drawing and "c-osteoporosis" in drawing
    assert "A &lt;b&gt;" in drawing
    assert "a-long-pse…" in drawing
    many = draw_strips("many", [Strip(f"P{number}", 1, [0.5], "1 of 1") for number in range(90)], 0.5)
    assert many.count('class="mean') == 90
    assert "P17" not in many
