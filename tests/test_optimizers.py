"""SGD and learning rate against the formula of the paper's framework and against PyTorch."""

import keras
import numpy as np
import pytest

from cplus1_keras.optimizers import SCHEDULES, SGDWithL2, WarmUp, cosine, poly, schedule, stepwise


def test_poly_is_the_formula_of_the_framework():
    rate = poly(0.01, 20_000)
    for step in (0, 1, 5000, 19_999, 20_000):
        expected = (0.01 - 1e-4) * (1 - step / 20_000) ** 0.9 + 1e-4
        assert float(rate(step)) == pytest.approx(expected, rel=1e-5)
    assert float(poly(1e-5, 10)(10)) == pytest.approx(1e-5)  # never rises
    assert float(poly(0.5, 10, power=2.0, end=0.1)(5)) == pytest.approx(0.4 * 0.25 + 0.1)


def test_weight_decay_is_pytorchs():
    torch = pytest.importorskip("torch", reason="the reference runs on PyTorch")
    generator = np.random.default_rng(0)
    x, weight = generator.normal(size=(5, 3)).astype("float32"), generator.normal(size=(3, 2)).astype("float32")
    theirs = torch.nn.Parameter(torch.tensor(weight))
    optimizer = torch.optim.SGD([theirs], lr=0.1, momentum=0.9, weight_decay=0.05)
    layer = keras.layers.Dense(2, use_bias=False)
    model = keras.Sequential([keras.Input((3,)), layer])
    layer.set_weights([weight])
    model.compile(SGDWithL2(0.1, momentum=0.9, l2=0.05), "mse")
    for _ in range(4):
        optimizer.zero_grad()
        (torch.tensor(x) @ theirs).square().mean().backward()
        optimizer.step()
        model.train_on_batch(x, np.zeros((5, 2), "float32"))
    np.testing.assert_allclose(layer.get_weights()[0], theirs.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_weight_decay_by_hand():
    """v <- 0.9 v - rate (g + l2 w), w <- w + v: two steps of a weight of 1 with gradient 0.5."""
    weight, optimizer = keras.Variable([1.0]), SGDWithL2(0.1, momentum=0.9, l2=0.2)
    w, v = 1.0, 0.0
    for _ in range(2):
        optimizer.apply([np.array([0.5], "float32")], [weight])
        v = 0.9 * v - 0.1 * (0.5 + 0.2 * w)
        w += v
    assert float(weight[0]) == pytest.approx(w, rel=1e-6)


def test_it_is_read_again_and_refuses_two_kinds_of_decay():
    assert SGDWithL2.from_config(SGDWithL2(0.1, l2=0.05).get_config()).l2 == 0.05
    with pytest.raises(ValueError, match="in place of `weight_decay`"):
        SGDWithL2(weight_decay=0.1)
    with pytest.raises(ValueError, match=r"Received: l2=-0.1"):
        SGDWithL2(l2=-0.1)


def test_cosine_by_its_formula():
    rate = cosine(0.3, 200, end=0.1)
    for step in (0, 1, 77, 200, 999):
        wave = 0.5 * (1 + np.cos(np.pi * min(step, 200) / 200))
        assert float(rate(step)) == pytest.approx(0.3 * (0.9 * wave + 0.1), rel=1e-5)


def test_stepwise_falls_where_it_is_told():
    rate = stepwise(0.1, 1640, at=(84 / 164, 122 / 164), factor=0.2)
    for step, number in ((0, 0), (840, 0), (841, 1), (1220, 1), (1221, 2), (5000, 2)):
        assert float(rate(step)) == pytest.approx(0.1 * 0.2**number, rel=1e-5)


@pytest.mark.parametrize("given", [0.5, cosine(0.5, 40)])
def test_warm_up_rises_to_its_schedule_and_is_saved(given):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(WarmUp(given, 8)))
    for step in (0, 3, 6, 7, 8, 39):
        full = float(given(step)) if callable(given) else given
        assert float(again(step)) == pytest.approx(min(1, (step + 1) / 8) * full, rel=1e-6)
    with pytest.raises(ValueError, match="`steps` must be an integer >= 1"):
        WarmUp(0.1, 0)


def test_schedules_go_by_name():
    assert [schedule(name) for name in SCHEDULES] == [cosine, poly, stepwise]
    assert schedule("stepwise") is stepwise
    with pytest.raises(ValueError, match=r"No schedule is named 'step'\. There are: cosine, poly, stepwise"):
        schedule("step")
