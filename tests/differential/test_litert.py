"""`run` against LiteRT in its three kernel modes, bit for bit; the long version is scripts/bench fidelity."""

import numpy as np
import pytest
import tflite_networks as t

from bvverify.errors import UnsupportedError, UsageError
from bvverify.load.load import load
from bvverify.model.ops import Conv2d, Dense
from bvverify.run import interpreter, oracle_litert, replay

MODES = ("tflite-reference", "tflite-optimised", "tflite-xnnpack")
LAYERS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D")


def compare(tmp_path, content, mode, x):
    """Outputs of the interpreter and of the runtime."""
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    oracle_litert._of_file.cache_clear()
    network = load(path, mode)
    got = interpreter.declared_output(network, interpreter.run(network, interpreter.quantise_input(network, x)))
    expected = oracle_litert.ask(network, x)
    assert got.dtype == expected.dtype
    return got, expected


@pytest.mark.parametrize("mode", MODES)
def test_random_networks(tmp_path, mode):
    for seed in range(25):
        content, shape = t.model(seed)
        got, expected = compare(tmp_path, content, mode, t.inputs(np.random.default_rng(seed), shape, 20))
        assert np.array_equal(got, expected), seed


@pytest.mark.parametrize("kind", t.KINDS[:-1])
@pytest.mark.parametrize("mode", MODES)
def test_every_operator(tmp_path, mode, kind):
    for seed in range(8):
        content, shape = t.model(seed, [kind])
        got, expected = compare(tmp_path, content, mode, t.inputs(np.random.default_rng(seed), shape, 20))
        assert np.array_equal(got, expected), seed


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("mode", MODES)
def test_accumulators_next_to_every_step(tmp_path, mode, kind, per_channel):
    """Channel i holds an accumulator at a threshold of its own staircase, one below, one above; ties of powers of two among them."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        content, x = t.at_thresholds(rng, tmp_path / "probe.tflite", kind, mode, per_channel)
        got, expected = compare(tmp_path, content, mode, x)
        assert np.array_equal(got, expected), (seed, int((got != expected).sum()), got.size)
        assert len(np.unique(expected)) > 40


@pytest.mark.parametrize("kind", [*t.UNARY, "GELU", "RELU_N1_TO_1", "QUANTIZE"])
@pytest.mark.parametrize("mode", MODES)
def test_all_inputs_of_unary_functions_at_every_position(tmp_path, mode, kind):
    """A table read off one row holds wherever a value stands, so that vector bodies and their remainders agree."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x, y = t.scales(rng), t.scales(rng)
        y = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}.get(kind, y)
        every = np.stack([np.roll(np.arange(-128, 128), k)[:67] for k in range(256)]).astype(np.int8)
        got, expected = compare(tmp_path, t.unary(kind, x, y, (1, 67)), mode, every)
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("mode", MODES)
def test_all_pairs_of_an_addition(tmp_path, mode):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        content = t.added(t.scales(rng), t.scales(rng), t.scales(rng))
        pairs = np.stack([np.concatenate([np.arange(-128, 128), np.full(256, b)]) for b in range(-128, 128)]).astype(np.int8)
        got, expected = compare(tmp_path, content, mode, pairs.reshape(256, 2, 256, 1))
        assert np.array_equal(got, expected), seed


@pytest.mark.parametrize(("scale", "activation"), [(12.0, "RELU6"), (4.0, "RELU6"), (2.0, "RELU_N1_TO_1"), (2 / 3, "RELU_N1_TO_1")])
@pytest.mark.parametrize("mode", MODES)
def test_ends_of_activations_that_are_ties(tmp_path, mode, scale, activation):
    bias = np.arange(-400, 400)
    for kind in LAYERS:
        content = t.layer(kind, (scale, 0), (scale, 3), [1.0], bias, activation)
        got, expected = compare(tmp_path, content, mode, np.zeros((1, 800 if kind == "DEPTHWISE_CONV_2D" else 1), np.int8))
        assert np.array_equal(got, expected), kind
    every = np.stack([np.arange(-128, 128)] * 2).reshape(1, 2, 256, 1).astype(np.int8)
    for zero in (3, -4):
        q = (scale, zero)
        pools = [t.pooled(kind, q, kernel, activation) for kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D") for kernel in (1, 2)]
        for content in (*pools, t.added(q, q, q, activation)):
            got, expected = compare(tmp_path, content, mode, every)
            assert np.array_equal(got, expected), zero


def test_the_modes_are_different_functions(tmp_path):
    answers = {}
    for mode in MODES:
        content = t.layer("FULLY_CONNECTED", (0.5, 0), (1.0, 0), [1.0], np.arange(-200, 200))
        answers[mode], _ = compare(tmp_path, content, mode, np.zeros((1, 1), np.int8))
    assert not np.array_equal(answers["tflite-reference"], answers["tflite-optimised"])
    assert not np.array_equal(answers["tflite-reference"], answers["tflite-xnnpack"])
    assert not np.array_equal(answers["tflite-optimised"], answers["tflite-xnnpack"])


@pytest.mark.parametrize("mode", MODES)
def test_the_runtime_is_asked_about_a_witness_and_a_lie_is_found_out(tmp_path, mode):
    content, shape = t.model(3, ["conv"])
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    oracle_litert._of_file.cache_clear()
    network = load(path, mode)
    image = t.inputs(np.random.default_rng(0), shape, 1)
    declared = interpreter.declared_output(network, interpreter.run(network, interpreter.quantise_input(network, image)))
    (answer,) = replay.runtime_replays(network, image, declared)
    assert answer.agreed
    assert mode.removeprefix("tflite-") in answer.runtime
    (answer,) = replay.runtime_replays(network, image, declared ^ 1)
    assert not answer.agreed


def test_a_microcontroller_is_not_asked(tmp_path):
    content, shape = t.model(3, ["conv"])
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    for profile, name in (("cmsis-nn", "q31-double"), ("cmsis-nn:single-rounding=1", "q31-single")):
        network = load(path, profile)
        assert network.requantisations() == (name,)
        image = t.inputs(np.random.default_rng(0), shape, 1)
        assert replay.runtime_replays(network, image, image) == ()
        assert "microcontrollers" in replay.no_runtime(network)
    path.write_bytes(t.unary("TANH", (0.1, 0), (1 / 128, 0)))
    with pytest.raises(UnsupportedError, match=r"operator 0 \(TANH\).*cmsis-nn"):
        load(path, "cmsis-nn")


@pytest.mark.parametrize("reals", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_final_softmax_is_left_off_and_run_asks_the_runtime_for_it(tmp_path, mode, reals):
    content, x = t.softmax(reals), np.arange(-30, 30, dtype=np.int8).reshape(6, 10)
    got, expected = compare(tmp_path, content, mode, x)
    assert np.array_equal(got, expected)
    network = load(tmp_path / "m.tflite", mode)
    assert network.output.stripped == "SOFTMAX"
    assert isinstance(network.ops[-1], Dense)
    whole = oracle_litert.invoke(oracle_litert.interpreter(content, mode, "m"), x)
    assert np.array_equal(oracle_litert.finish(network, got), whole)
    assert not np.array_equal(whole, got)


@pytest.mark.parametrize("mode", MODES)
def test_float_ends_at_ties(tmp_path, mode):
    """Halfway between two integers, a unit of float32 on either side, and far outside; and what replay gives the runtime comes back."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        scale, zero = t.scales(rng)
        scale = float(np.float32(np.exp(rng.uniform(-6, 2)))) if seed % 2 else scale
        halves = ((np.arange(-300, 300) + 0.5) * np.float64(scale)).astype(np.float32)
        x = np.concatenate(
            [halves, np.nextafter(halves, np.float32(np.inf)), np.nextafter(halves, np.float32(-np.inf))] + [[1e6, -1e6]] * 4
        )
        if mode == "tflite-optimised" and zero != 0 and np.frexp(scale)[0] != 0.5:
            with pytest.raises(UnsupportedError, match="final DEQUANTIZE"):
                compare(tmp_path, t.in_floats((scale, zero), len(x)), mode, x[None])
            zero = 0
        got, expected = compare(tmp_path, t.in_floats((scale, zero), len(x)), mode, x[None].astype(np.float32))
        assert np.array_equal(got, expected)
        network = load(tmp_path / "m.tflite", mode)
        q = rng.integers(-128, 128, (1, len(x)))
        given = replay.file_input(network, q[0])
        assert np.array_equal(interpreter.quantise_input(network, given), q)
    if mode == "tflite-optimised":
        with pytest.raises(UnsupportedError, match=r"operator 0 \(QUANTIZE\): the last elements"):
            compare(tmp_path, t.in_floats((scale, zero), 1802), mode, x[None, :1802])
    # Built-in kernels overflow far out, and give the least value for the largest input.
    with pytest.raises(UsageError, match="overflows"):
        interpreter.quantise_input(network, np.full(given.shape, 1e30, np.float32))


def test_a_padded_mean_divides_by_what_lies_inside(tmp_path):
    """Found as a convolution over positions, with a divisor for each."""
    seeds = [seed for seed in range(40) if _has_padded_mean(tmp_path, seed)]
    assert len(seeds) > 5


def _has_padded_mean(tmp_path, seed):
    path = tmp_path / "m.tflite"
    path.write_bytes(t.model(seed, ["average"])[0])
    return any(isinstance(op, Conv2d) for op in load(path, "tflite-reference").ops)
