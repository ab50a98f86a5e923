"""All that is drawn, artist by artist, as the texts in `drawn/` say it: a picture that changes changes one of them.

python tests/plots/test_drawn.py    writes them anew; read the difference before you keep it.
"""

import pathlib

import numpy as np
import pytest
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle, StepPatch

from cplus1_keras import plots
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

FOLDER = pathlib.Path(__file__).parent / "drawn"
GENERATOR = np.random.default_rng(0)
COARSE = np.round(GENERATOR.normal(size=40) * 2) / 2  # with ties
KINDS = np.repeat([0, 1, NEGATIVE, UNKNOWN, IGNORE], 8)
IMAGES = GENERATOR.uniform(-20, 280, (12, 3, 4, 3))
LABELS = np.array([[0, 1, 2, NEGATIVE], [UNKNOWN, IGNORE, 0, 0]])
ANSWER = {
    "argmax": np.array([[0, 1, 2, 3], [0, 1, 2, 3]]),
    "known_argmax": np.array([[0, 1, 2, 0], [0, 1, 2, 1]]),
    "score": np.array([[3.0, 2, -1, np.inf], [0.5, 1, -4, 2.5]]),  # one is at the threshold
}
CURVE = np.array([0.5, 1.0, 0.05, 0.5, 0.0]), np.array([0.75, 0.9, 0.25, 0.5, 0.125])
CAMS = np.array([[[[0.1, -0.2, 0.4], [0.05, 0.1, 0.0]]]])
NAMES = ["road", "$5", "tree"]
BOXES = np.array([[0.5, 1, 2, 2.5], [0, 0, 3, 2], [1, 0, 3, 3], [1, 1, 3, 2], [1, 1, 1, 2], [1, 2, 3, 2]], "float32")
BOX_LABELS = np.array([2, UNKNOWN, NEGATIVE, IGNORE, 0, 0])  # the last two are padding
FOUND = {
    "boxes": BOXES,
    "class_id": np.array([1, -1, -1, -1, 2, 0]),
    "score": np.array([1.25, -0.5, -0.75, -1.0, 3.0, 2.0]),
    "confidence": np.array([0.01, 0.25, 0.24, 0.5, 0.0, 1.0]),
}
LARGE = np.arange(30 * 40, dtype="float32").reshape(30, 40, 1) / 5
SHOWN = [(LARGE, (x, x / 2, x + 9, x / 2 + 4), f"$ {x}") for x in (0.5, 15.5, 29.0, 5.0)]
RAYS = np.array([[1.0, 0.5], [-2.0, 1.0], [0.5, -1.0]])
RATES = np.array([0.25, 0.5, 0.5]), np.array([1.0, 0.75, 0.5])


def many_curves():
    return plots.oscr({(f"method {number}", f"group {number % 5}"): CURVE for number in range(8)})


FIGURES = {
    "oscr": lambda: plots.oscr({"a": CURVE, "b": ([1.0, 0.002], [0.8, 0.1])}, title="Digits"),
    "oscr_by_method_and_group": lambda: plots.oscr({("a", "x"): CURVE, ("a", "y"): CURVE, ("b", "x"): CURVE}),
    "oscr_of_many": many_curves,
    "sheet": lambda: plots.accepted_unknowns(
        IMAGES, ["a"] * 12, ["seventeen letters"] * 6 + [f"b{i}" for i in range(6)], COARSE[:12], 0.12345, limit=10
    ),
    "sheet_of_grey": lambda: plots.accepted_unknowns(IMAGES[:1, ..., :1], ["a"], ["fourteen chars"], [2], title="Mine"),
    "sheet_of_none": lambda: plots.accepted_unknowns(IMAGES[:0], [], [], [], threshold=1.25),
    "histogram": lambda: plots.histogram(KINDS, COARSE, threshold=0.5, bins=4, score_name="energy", title="Digits"),
    "histogram_of_two_kinds": lambda: plots.histogram(KINDS[:24], COARSE[:24]),
    "panels": lambda: plots.panels(IMAGES[0, :2], LABELS, ANSWER, NAMES, 0.5, "energy", "some image"),
    "panels_without_truth": lambda: plots.panels(IMAGES[0, :2, :, :1], None, ANSWER, NAMES, threshold=9.0),
    "panels_of_one_score": lambda: plots.panels(
        np.zeros((9, 4, 3)), None, {name: np.zeros((9, 4), int) for name in ANSWER}, NAMES
    ),
    "features": lambda: plots.pixel_features(
        np.outer(np.arange(12.0), [1, 2, 3])[:, ::-1] + COARSE[:12, None], KINDS[::3][:12], NAMES, limit=2, title="Mine"
    ),
    "features_of_two": lambda: plots.pixel_features(
        GENERATOR.normal(size=(1, 2, 3, 2)), np.array([[[0, 1, 2], [0, 1, 2]]]), NAMES
    ),
    "maps": lambda: plots.activation_maps(
        IMAGES[:1], CAMS, [[True, False, True]], [[1.0, -1, 2.25]], NAMES, [[0, 1, 1]], columns=3, title="Mine"
    ),
    "detections": lambda: plots.detections(IMAGES[0], BOXES, BOX_LABELS, FOUND, NAMES, least=0.25, title="Mine"),
    "detections_of_a_flat_image": lambda: plots.detections(
        np.zeros((9, 90, 1)), BOXES[:0], BOX_LABELS[:0], {name: own[:0] for name, own in FOUND.items()}, NAMES
    ),
    "mistakes": lambda: plots.mistakes({"unknown": SHOWN, "background": SHOWN[:1]}, columns=3, title="Mine"),
    "mistakes_of_none": lambda: plots.mistakes({"unknown": []}),
    "precision_recall": lambda: plots.precision_recall({NAMES[1]: RATES, "tree": RATES}, title="Mine"),
    "precision_recall_of_many": lambda: plots.precision_recall({f"class {number}": RATES for number in range(21)}),
    "mistakes_of_whole_images": lambda: plots.mistakes({"wrong class": [(LARGE[:20, :10], None, "$ 1")]}),
    "placed_features": lambda: plots.features(
        np.outer(COARSE[:20], [1, -2]) + KINDS[:20, None] / 50, KINDS[:40:2], NAMES, RAYS, "anchors", title="Mine"
    ),
    "features_on_the_circle": lambda: plots.features(RAYS, [2, -1, -2], NAMES, RAYS, circle=True),
    "oscr_bands": lambda: plots.oscr_bands({"$a": [CURVE, ([1.0, 0.1], [0.8, 0.5])], "b": [CURVE]}, title="Mine"),
    "against": lambda: plots.against([0.1, 1], {"$a": [[0.5, 0.75], [0.75, 0.25]]}, "λ", "top-1", 0.625, "Mine"),
    "angle_distributions": lambda: plots.angle_distributions(
        KINDS, np.abs(COARSE) / 2, 8.0, 4, lambda x: np.cos(x) - 0.25, bins=8, title="Mine"
    ),
    "angle_distributions_alone": lambda: plots.angle_distributions(KINDS[:8], np.abs(COARSE[:8]) / 2, bins=4),
    "weight_norms": lambda: plots.weight_norms({"$a": [1, 2, 3], "b": [2, 2, 2]}, [10, 1000, 100], title="Mine"),
    "reliability": lambda: plots.reliability([0.05, 0.95, 0.9, 1.0], [True, True, False, True], bins=4, title="$ 1"),
    "confusion": lambda: plots.confusion(KINDS, np.arange(40) % 3, COARSE, 0.5, NAMES, title="Mine"),
    "confusion_of_many": lambda: plots.confusion([0, 14], [0, 2], [1.0, 0.0], 0.5, [f"c{k}" for k in range(15)]),
    "acceptance": lambda: plots.acceptance(
        {"$5": ("known", 3, 4), "owl": ("negative", 1, 8), "eel": ("unknown", 0, 1000)}, target=0.25, title="Mine"
    ),
    "maps_of_none": lambda: plots.activation_maps(IMAGES[:1], CAMS, [[False] * 3], np.zeros((1, 3)), NAMES),
}


def plain(value):
    """Numbers with four digits, colours as #rrggbb, the rest as it is."""
    if isinstance(value, float | int | np.number) and not isinstance(value, bool):
        return f"{value:.4g}"
    if isinstance(value, np.ndarray | list | tuple):
        values = np.ravel(value)
        if len(values) > 24:
            return f"{np.shape(value)} from {values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}"
        return "[" + " ".join(map(plain, values)) + "]"
    return str(value)


def told(kind, **settings):
    return "  " + "  ".join([kind, *(f"{name}={plain(value)}" for name, value in settings.items())])


def text(kind, artist):
    shown = {"text": repr(artist.get_text()), "size": artist.get_fontsize(), "colour": to_hex(artist.get_color())}
    return told(kind, **shown, formulas=artist.get_parse_math(), at=artist.get_horizontalalignment())


def line(artist):
    shown = {"x": artist.get_xdata(), "y": artist.get_ydata(), "colour": to_hex(artist.get_color())}
    shown |= {"dash": artist.get_linestyle(), "width": artist.get_linewidth(), "steps": artist.get_drawstyle()}
    return told("line", label=artist.get_label(), **shown, marker=artist.get_marker(), size=artist.get_markersize())


def patch(artist):
    values, edges, _ = artist.get_data()
    colour = artist.get_facecolor() if artist.get_fill() else artist.get_edgecolor()
    shown = {"values": values, "edges": edges, "filled": artist.get_fill(), "colour": to_hex(colour)}
    return told("stairs", label=artist.get_label(), **shown, alpha=artist.get_alpha(), width=artist.get_linewidth())


def box(artist):
    shown = {"at": artist.get_bbox().bounds, "colour": to_hex(artist.get_edgecolor()), "filled": artist.get_fill()}
    return told("box", **shown, dash=artist.get_linestyle(), width=artist.get_linewidth())


def words(artist):
    shown = {"xy": artist.get_position(), "turned": artist.get_rotation(), "from": artist.get_verticalalignment()}
    ground = artist.get_bbox_patch()
    if ground is not None:
        edge, pad = to_hex(ground.get_edgecolor(), keep_alpha=True), ground.get_boxstyle().pad
        shown |= {"ground": to_hex(ground.get_facecolor()), "edge": edge, "alpha": ground.get_alpha(), "pad": pad}
    within = "axes" if artist.get_transform() is artist.axes.transAxes else "data"
    return text("text", artist) + told("", **shown, within=within, clipped=artist.get_clip_on())


def cloud(artist):
    shown = {"points": np.round(artist.get_offsets(), 6) + 0.0, "colour": to_hex(artist.get_facecolor()[0])}
    shown |= {"size": artist.get_sizes(), "alpha": artist.get_alpha(), "width": artist.get_linewidths()}
    return told("points", label=artist.get_label(), **shown)


def band(artist):
    (path,) = artist.get_paths()
    shown = {"corners": path.vertices, "colour": to_hex(artist.get_facecolor()[0]), "alpha": artist.get_alpha()}
    return told("band", **shown)


def image(artist):
    shown = {"pixels": np.asarray(artist.get_array(), float), "colours": artist.get_cmap().name}
    shown |= {"range": artist.get_clim(), "alpha": artist.get_alpha(), "extent": artist.get_extent()}
    named = artist.get_interpolation().replace("antialiased", "auto")  # its name before matplotlib 3.10
    return told("image", **shown, interpolation=named)


def legend(artist):
    frame = artist.get_frame()
    shown = {"columns": artist._ncols, "place": artist._loc, "at": artist.get_bbox_to_anchor()._bbox.p0}
    shown |= {"frame": artist.get_frame_on(), "alpha": frame.get_alpha(), "edge": to_hex(frame.get_edgecolor())}
    faces = [to_hex(h.get_facecolor()) for h in artist.legend_handles if hasattr(h, "get_facecolor")]
    edges = [[to_hex(h.get_edgecolor()), plain(h.get_linewidth())] for h in artist.get_patches()]
    lines = [told("legend", **shown, markers=artist.markerscale, faces=" ".join(faces), edges=edges)]
    return lines + [text("  entry", entry) for entry in artist.get_texts()]


def axis(artist):
    lines = [text(f"{artist.axis_name} label", artist.label)] * bool(artist.label.get_text())
    for which in ("major", "minor"):
        ticks = artist.get_major_ticks(1) if which == "major" else artist.get_minor_ticks(1)
        grid = {"grid": ticks[0].gridline.get_visible(), "colour": to_hex(ticks[0].gridline.get_color())}
        grid |= {"width": ticks[0].gridline.get_linewidth(), "ticks": to_hex(ticks[0].tick1line.get_color())}
        size = ticks[0].label1.get_fontsize()
        lines.append(told(f"{artist.axis_name} {which}", **grid, size=size, half=artist.get_major_formatter()(0.5)))
    return lines


def frame(axes):
    """What is around the data: where the axes are, their limits, edges, ticks and labels."""
    place = axes.get_subplotspec()
    lines = ["axes" if place is None else f"axes {place.rowspan.start}, {place.colspan.start}"]
    if axes.axison:
        shown = {"below": axes.get_axisbelow(), "x": axes.get_xlim(), "y": axes.get_ylim()}
        edges = [f"{side} {to_hex(edge.get_edgecolor())}" for side, edge in axes.spines.items() if edge.get_visible()]
        lines += [told(axes.get_xscale(), **shown, edges=", ".join(edges)), *axis(axes.xaxis), *axis(axes.yaxis)]
    return lines + [text("title", axes.title)] * bool(axes.get_title())


def describe(figure):
    """A figure as lines of text."""
    engine, size = figure.get_layout_engine(), figure.get_size_inches()
    lines = [f"figure of {plain(size)} inches, {figure.dpi:g} dpi, {type(engine).__name__}"]
    lines += [] if figure._suptitle is None else [text("title", figure._suptitle)]
    for own in figure.legends:
        lines += legend(own)
    for axes in figure.axes:
        lines += [*frame(axes), *map(line, axes.lines)]
        lines += [cloud(own) for own in axes.collections if isinstance(own, PathCollection)]
        lines += [band(own) for own in axes.collections if isinstance(own, PolyCollection)]
        lines += [patch(own) for own in axes.patches if isinstance(own, StepPatch)]
        lines += [box(own) for own in axes.patches if isinstance(own, Rectangle)]
        lines += [*map(image, axes.images), *map(words, axes.texts)]
        lines += [] if axes.get_legend() is None else legend(axes.get_legend())
    return [own.rstrip() for own in lines]


def test_a_dollar_in_a_name_begins_no_formula(tmp_path):
    odd = r"$\frac$"
    scores = np.arange(4.0)
    for number, figure in enumerate(
        (
            plots.oscr({odd: CURVE}, title=odd),
            plots.accepted_unknowns(IMAGES[:1], [odd], [odd], [1.0], title=odd),
            plots.histogram([0, 0, -1, -2], scores, score_name=odd, title=odd),
            plots.panels(IMAGES[0, :2], LABELS, ANSWER, [odd] * 3, score_name=odd, title=odd),
            plots.pixel_features(scores.reshape(2, 2), [0, 0], [odd], title=odd),
            plots.activation_maps(IMAGES[:1], CAMS, [[True] * 3], np.ones((1, 3)), [odd] * 3, title=odd),
            plots.detections(IMAGES[0], BOXES, BOX_LABELS, FOUND, [odd] * 3, title=odd),
            plots.mistakes({odd: [(LARGE, (1, 1, 9, 9), odd)]}, title=odd),
            plots.precision_recall({odd: RATES}, title=odd),
            plots.features(RAYS, [0, 0, 0], [odd], RAYS, odd, title=odd),
            plots.oscr_bands({odd: [CURVE]}, title=odd),
            plots.against([1.0], {odd: [[1.0]]}, odd, odd, title=odd),
            plots.angle_distributions([0], [1.0], title=odd),
            plots.weight_norms({odd: [1.0]}, [1], title=odd),
            plots.reliability([1.0], [True], title=odd),
            plots.confusion([0], [0], [1.0], 0.0, [odd], title=odd),
            plots.acceptance({odd: ("known", 1, 1)}, title=odd),
        )
    ):
        figure.savefig(tmp_path / f"{number}.png")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_as_it_was(name):
    assert describe(FIGURES[name]()) == (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    for name, draw in FIGURES.items():
        (FOLDER / f"{name}.txt").write_text("\n".join(describe(draw())) + "\n", encoding="utf-8")
