"""Whether to climb on at a node: where it should save more than it costs, as far as what it brings was learned."""

import hard_questions
import pytest
import torch

from bvverify.certify import kernel
from bvverify.run.replay import violates
from bvverify.search import longer, proof
from bvverify.search.longer import LEVELS, Longer
from bvverify.search.node import Node
from bvverify.search.root import Root, tighten
from bvverify.search.search import Search

NEVER = torch.full((4,), LEVELS)
MANY = 10**9
GAIN = torch.ones(4, dtype=torch.float64)


def gaps(*sizes):
    return torch.tensor(sizes, dtype=torch.float64)


def test_it_pays_where_many_splits_would_be_needed_and_not_where_few_are():
    worth = Longer(5.0, 0.0).worth(gaps(10.0, 2.0, 0.5, 0.01), NEVER, GAIN * 0.4, MANY)
    assert worth.tolist() == [True, True, False, False]


def test_it_waits_until_it_is_known_what_splits_gain():
    assert not Longer(5.0, 0.0).worth(gaps(10.0, 10.0, 10.0, 10.0), NEVER, GAIN * 0.0, MANY).any()


def test_the_calls_alone_have_to_be_worth_it():
    few, many = gaps(10.0), torch.full((64,), 10.0, dtype=torch.float64)
    for missing, expected in ((few, False), (many, True)):
        since = torch.full((len(missing),), LEVELS)
        assert bool(Longer(5.0, 200.0).worth(missing, since, missing * 0 + 0.1, MANY).all()) is expected


def test_no_more_than_a_share_of_the_nodes_the_most_saving_first():
    of = Longer(5.0, 0.0)
    enough = int(2 * of.cost / longer._SHARE)  # for two
    assert of.worth(gaps(0.8, 10.0, 0.9, 9.0), NEVER, GAIN * 0.1, enough).tolist() == [False, True, False, True]
    of.learn(gaps(10.0, 9.0), gaps(1.0, 1.0), NEVER[:2])
    assert not of.worth(gaps(10.0, 10.0, 10.0, 10.0), NEVER, GAIN * 0.1, enough).any()


def test_what_it_brings_is_learned_by_how_long_ago_the_last_was():
    of = Longer(12.0, 0.0)
    for _ in range(200):
        of.learn(gaps(1.0, 2.0, 4.0, 8.0), gaps(0.9, 1.8, 2.0, 4.0), torch.tensor([1, 1, LEVELS + 3, LEVELS]))
    assert float(of.share[1]) == pytest.approx(0.1, abs=1e-3)
    assert float(of.share[LEVELS - 1]) == pytest.approx(0.5, abs=1e-3)
    assert float(of.share[2]) == pytest.approx(longer._AT_FIRST)
    assert of.worth(gaps(1.0, 1.0), torch.tensor([1, LEVELS]), GAIN[:2] * 0.2, MANY).tolist() == [False, True]


def chain(*bounds):
    """Nodes below one another, with these bounds."""
    nodes = [Node(0, None, 0, bound=bounds[0])]
    for number, bound in enumerate(bounds[1:], 1):
        nodes.append(Node(number, nodes[-1], 0, bound=bound, since=number))
    return nodes


def test_what_splits_gain_is_that_of_the_way_to_a_node():
    steep, flat = chain(-8.0, -6.0, -4.0, -2.0), chain(-2.0, -2.0, -2.0, -2.0)
    assert longer.gains([steep[3], flat[3], flat[0]], 0.4).tolist() == pytest.approx([6.4 / 4, 0.4 / 4, 0.4])


def test_no_more_splits_are_looked_at_than_there_were_since_the_last_long_ascent_and_than_are_told_apart():
    nodes = chain(*(-100.0 + 2.0**i for i in range(LEVELS + 4)))
    last = nodes[-1]
    for since in (1, 3, LEVELS, LEVELS + 3):
        last.since, looked = since, min(since, LEVELS)
        expected = (last.bound - nodes[-1 - looked].bound) / (looked + 1)
        assert longer.gains([last], 0.0).tolist() == pytest.approx([expected])


def test_a_way_that_begins_without_a_bound_is_looked_at_from_the_first_one_on():
    nodes = chain(-torch.inf, -5.0, -3.0)
    assert longer.gains(nodes[1:], 0.7).tolist() == pytest.approx([0.7, 2.7 / 2])


def test_a_first_bound_that_is_none_asks_for_nothing():
    of = Longer(5.0, 0.0)
    assert not of.worth(gaps(torch.inf, -1.0, 0.0, torch.nan), NEVER, GAIN * 0.1, MANY).any()


@pytest.fixture
def everywhere(monkeypatch):
    """Climbing on at every node that is not one that was; how many."""
    climbed = [0]

    def always(_self, missing, since, gain, _nodes):
        worth = (since > 0) & (missing > 0) & torch.isfinite(missing)
        climbed[0] += int(worth.sum())
        return worth if (gain > 0).any() else torch.zeros_like(worth)

    monkeypatch.setattr(Longer, "worth", always)
    return climbed


@pytest.mark.parametrize(("by", "seed"), [(-1, 0), (0, 0), (-1, 1), (0, 1), (-1, 2)])
def test_a_search_that_climbs_on_everywhere_answers_the_same_and_its_proof_is_whole(by, seed, everywhere):
    query = hard_questions.query(by, seed)
    root = Root.of(query, [])
    tighten(root, None)
    outcome = Search(root, range(len(query.property.violation))).run(None)
    if by >= 0:
        assert violates(query, outcome.witness[None])[0]
        return
    assert everywhere[0] > 0
    assert outcome.trees is not None
    kernel.check(proof.certificate(query, root.tightenings, [outcome.trees[i] for i in sorted(outcome.trees)]), query)
