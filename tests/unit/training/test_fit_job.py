"""The LLM box: what is penalised, towards which q, and what ends a run."""

import dataclasses
import re
import threading
import weakref

import pytest
import torch

from acft import chunked, toy
from acft.backbone.forward import logits, output_head
from acft.backbone.toy import START_ID, symbol_ids
from acft.data import TokenizedDocument, collate
from acft.distributed import Ranks
from acft.errors import NonFiniteError
from acft.events import Scalars
from acft.objective import log_reach, nll
from acft.policy import Policy, base_policy
from acft.threads import Workers
from acft.toy import ToyWorld
from acft.training import optimization
from acft.training.fit_job import _forward, _pieces, fit_job, losses_at
from acft.training.optimization import PolicyOptimizer, accumulate, backward
from acft.training.oracle_job import Guide, build_oracle
from acft.training.regularizer import REACH_MAX, ComputedGuidance, Regularizer
from acft.types import TokenBatch
from tests.toy_runs import (
    HORIZON,
    N_SYMBOLS,
    largest_difference,
    toy_run,
    trained,
    world_of,
)

WORLD = ToyWorld(N_SYMBOLS, HORIZON)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("toy")


@pytest.fixture
def world(place, tmp_path, monkeypatch):
    monkeypatch.setenv("ACFT_ASSETS", str(tmp_path))
    return world_of(toy_run(place, "oracle.kind=exact"))


def document(tokens, start=1, domain="attribute"):
    return TokenizedDocument("d" + "".join(map(str, tokens)), domain, tuple(tokens), start)


def regularizer(world, **changes):
    guide = Guide(build_oracle(world), 1.0, 0)
    return dataclasses.replace(Regularizer(guide, world.base, kl_weight=2.0), **changes)


def optimizer(world):
    return PolicyOptimizer(world.policy.parameters(), world.run.optimizer, 9)


def everything(world):
    """All sequences of the world as one batch."""
    sequences = torch.tensor(symbol_ids(N_SYMBOLS))[WORLD.sequences()]
    documents = [document([START_ID, *row]) for row in sequences.tolist()]
    return documents, collate(documents, 0, HORIZON)


@pytest.mark.parametrize(("delta", "strength"), [(1.0, 1.0), (0.9, 1.0), (1.0, 3.0), (0.9, 3.0)])
def test_the_target_is_the_enumerated_guided_policy(world, delta, strength):
    documents, batch = everything(world)
    with torch.no_grad():
        hidden = world.policy.hidden(batch)
    rule = regularizer(world, delta=delta, guide=Guide(build_oracle(world), strength, 0))
    target = ComputedGuidance(world, documents, batch, hidden, rule)
    found = target.beside_anchor(torch.arange(len(documents) * HORIZON))[1]
    found = found.unflatten(0, (-1, HORIZON))

    def next_logprobs(ids):
        with torch.no_grad():
            mask = torch.ones_like(ids, dtype=torch.bool)
            return world.base.next_logprobs(TokenBatch(ids, mask, mask))

    base = toy.enumerate_policy(next_logprobs, WORLD, [START_ID], symbol_ids(N_SYMBOLS))
    satisfied = WORLD.judge_texts(lambda text: world.constraint.score([""], [text])[0])
    assert 0.1 < toy.satisfaction(base, satisfied) < 0.9
    log_r, _ = toy.exact_next_log_r(base, satisfied)
    guided = toy.guided_tables(base, log_r, delta, strength)
    expected = toy.along(guided, WORLD.sequences()).exp()
    # prefixes beyond rescue are never reached by q; the floor of R makes q = p there as well
    assert torch.allclose(found[..., symbol_ids(N_SYMBOLS)].exp().double(), expected, atol=2e-5)
    q, p = (
        rows.gather(-1, WORLD.sequences()[..., None])[..., 0]
        for rows in (found[..., symbol_ids(N_SYMBOLS)], toy.along(base, WORLD.sequences()))
    )
    if strength == 1.0:
        satisfaction = (q.sum(dim=1).exp().double() * satisfied).sum()
        assert float(satisfaction) == pytest.approx(delta, abs=1e-4)
    reach = log_reach(q - p)[:, :-1].exp().clamp(max=REACH_MAX)
    assert float((reach - 1.0).abs().max()) > 0.02
    torch.testing.assert_close(
        target.reach().view(len(documents), -1), reach.float(), atol=1e-4, rtol=1e-3
    )


@pytest.mark.parametrize("anchored", [True, False])
def test_guidance_reads_what_is_penalised_and_nothing_else(world, monkeypatch, anchored):
    one, other = symbol_ids(N_SYMBOLS)[:2]
    penalised = document([START_ID, one, other, one])
    general = document([START_ID, other, *[one] * 2 * HORIZON], domain="general")
    longer = dataclasses.replace(penalised, token_ids=(*penalised.token_ids, *[one] * HORIZON))
    rule = regularizer(world, anchor=world.base if anchored else None)
    alone = computed([penalised], world, rule)
    read = []

    def watched(batch):
        read.append(tuple(batch.token_ids.shape))
        return Policy.hidden(world.base, batch)

    monkeypatch.setattr(world.base, "hidden", watched)
    beside = computed([general, longer], world, rule, [1])
    assert read == ([(1, 1 + HORIZON)] if anchored else [])
    n_first, n = len(general.token_ids) - 1, len(penalised.token_ids) - 1
    guided = beside.beside_anchor(n_first + torch.arange(n))[1]
    expected = alone.beside_anchor(torch.arange(n))[1]
    torch.testing.assert_close(guided, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        beside.reach()[n_first : n_first + n], alone.reach(), atol=1e-5, rtol=1e-5
    )
    assert torch.equal(beside.token_log_r()[1, :n], alone.token_log_r()[0, :n])


def test_the_policy_as_its_own_anchor_is_asked_once_for_its_distribution(world, monkeypatch):
    documents, batch = everything(world)
    own = world.policy.next_logprobs(batch)[:, :-1].flatten(0, 1).detach()
    guided = computed(documents, world, regularizer(world, anchor=None))
    some = torch.arange(0, len(own), 7)
    expected = guided.beside_anchor(some)[1]

    def asked_again(*_):
        raise AssertionError("logits were made a second time")

    monkeypatch.setattr("acft.training.regularizer.logits", asked_again)
    torch.testing.assert_close(guided(some, lambda: own[some]), expected, atol=1e-5, rtol=1e-5)


def computed(documents, world, rule, penalised=None):
    batch = collate(documents, 0, HORIZON)
    with torch.no_grad():
        hidden = world.policy.hidden(batch)
    return ComputedGuidance(world, documents, batch, hidden, rule, penalised)


def test_a_head_that_caps_its_logits_is_asked_about_a_few_positions_at_a_time(world, monkeypatch):
    model = world.policy.backbone.model
    head = output_head(model)
    vocab, width = head.weight.shape
    monkeypatch.setattr(model.config, "final_logit_softcapping", 2.0, raising=False)
    monkeypatch.setattr(chunked, "CHUNK_BYTES_CPU", 2 * 4 * vocab)
    hidden, targets = torch.randn(7, width, requires_grad=True), torch.arange(7) % vocab
    expected = nll(logits(model, hidden).log_softmax(dim=-1), targets)
    asked = []
    head.register_forward_hook(lambda _, given, __: asked.append(len(given[0])))
    found = losses_at(world.policy, hidden, targets, torch.ones(7), None).total
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(x.sum(), hidden) for x in (found, expected)))
    assert max(asked) == 2


def test_only_attribute_documents_are_penalised_when_adaptive(world):
    documents = [document([1, 2, 3]), document([1, 2, 3, 4], domain="general")]
    for is_adaptive, expected in ((True, {"attribute"}), (False, {"attribute", "general"})):
        rule = regularizer(world, is_adaptive=is_adaptive)
        (piece,) = _pieces(documents, [], rule, 2, 1.0)
        pairs = zip(piece.documents, piece.kl_weights, strict=True)
        assert {d.domain for d, weight in pairs if weight} == expected


def test_masking_documents_changes_no_tokens_weight(world):
    documents = [document([1, 2, 3]), document([1, 2, 3, 4], domain="general")]
    pieces = [
        _pieces(documents, [], regularizer(world, is_adaptive=is_adaptive), 2, 1.0)[0]
        for is_adaptive in (True, False)
    ]
    assert pieces[0].ce_weights == pieces[1].ce_weights == [1 / 5] * 2
    assert max(pieces[0].kl_weights) == max(pieces[1].kl_weights) == 2 / 5


def test_a_given_prompt_is_no_part_of_the_cross_entropy(world):
    whole = [document([1, 2, 3, 4], start=2)]
    given = [dataclasses.replace(whole[0], loss_start=2)]
    (piece,) = _pieces(given, [], None, 2, 1.0)
    assert piece.ce_weights == [1 / 2]
    found = []
    for documents in (whole, given):
        (piece,) = _pieces(documents, [], None, 2, 1.0)
        found.append(_forward(world, piece)[1].added())
    log_p = world.policy.next_logprobs(collate(whole, 0, HORIZON))[0].detach()
    each = [-float(log_p[t, token]) for t, token in enumerate((2, 3, 4))]
    assert [sums.n_tokens for sums in found] == [3, 2]
    assert found[0].nll == pytest.approx(sum(each), rel=1e-5)
    assert found[1].nll == pytest.approx(sum(each[1:]), rel=1e-5)


def test_sampled_prefixes_are_divided_by_their_own_tokens(world):
    sampled = [(document([0, 1, 2, 3, 4]), 1.0), (document([0, 4, 3]), 0.5)]
    (piece, _) = _pieces([document([1, 2])], sampled, regularizer(world), 8, 1.0)
    assert piece.ce_weights == [0, 0]
    assert list(piece.kl_weights) == pytest.approx([2 / 6, 1 / 6])


def test_the_longest_passes_of_a_step_come_first(world):
    sampled = [(document(range(length)), 1.0) for length in (3, 9, 5)]
    documents = [document(range(length)) for length in (8, 2, 4, 4)]
    sizes = [piece.n_padded for piece in _pieces(documents, sampled, regularizer(world), 2, 1.0)]
    assert sizes == sorted(sizes, reverse=True) == [18, 12, 8, 5]


def test_documents_without_any_weight_are_not_read(world):
    penalised = document([1, 2, 3])
    documents = [penalised, document([1, 2, 3, 4], domain="general")]
    sampled = [(document([0, 4, 3]), 1.0)]
    (piece,) = _pieces(documents, [], regularizer(world), 2, 0.0)
    assert piece.documents == [penalised]
    assert piece.kl_weights == [2 / 5]
    rule = regularizer(world, on_corpus=False)
    (piece,) = _pieces(documents, sampled, rule, 2, 0.0)
    assert piece.documents == [sampled[0][0]]


def test_a_step_of_nothing_still_decays_the_weights(place, world):
    run = toy_run(place, "oracle.kind=exact", "optimizer.weight_decay=0.5")
    world = dataclasses.replace(world, run=run)
    before = [parameter.detach().clone() for parameter in world.policy.parameters()]
    rule = regularizer(world, on_corpus=False)
    list(fit_job(world, optimizer(world), rule, 1, ce_weight=0.0))
    pairs = zip(before, world.policy.parameters(), strict=True)
    assert any(bool((new.abs() < old.abs()).any()) for old, new in pairs)


def steps(world, rule):
    return [o for o in fit_job(world, optimizer(world), rule, 1) if isinstance(o, Scalars)]


def test_the_kl_falls_where_it_is_all_there_is(world):
    documents, _ = everything(world)
    rule = regularizer(world, on_corpus=False, sampled=[(d, 1.0) for d in documents])
    found = [
        output.values["policy/kl_guided_policy"]
        for output in fit_job(world, optimizer(world), rule, 1, ce_weight=0.0)
        if isinstance(output, Scalars)
    ]
    assert len(found) == 3
    assert found[-1] < found[0]


def test_a_loss_that_is_no_number_names_step_and_cause(world):
    with torch.no_grad():
        world.policy.parameters()[0].fill_(torch.nan)
    with pytest.raises(NonFiniteError, match=r"loss is nan in step 1 \(documents d\w+.*lower"):
        steps(world, None)


@pytest.mark.parametrize(
    ("kl", "name"),
    [("guided_policy", "KL(guided || policy)"), ("policy_guided", "KL(policy || guided)")],
)
def test_a_kl_above_its_limit_names_direction_step_limit_and_cause(place, world, kl, name):
    run = toy_run(place, "oracle.kind=exact", "limits.kl_max=1e-6")
    limited = dataclasses.replace(world, run=run)
    told = rf"{re.escape(name)} is .* nats a token in step 1 .*kl_max = 1e-06; lower"
    with pytest.raises(NonFiniteError, match=told):
        steps(limited, regularizer(world, kl=kl))


def test_a_stop_is_obeyed_before_the_next_step(world):
    asked = iter([False, True])
    job = fit_job(world, optimizer(world), None, 1, should_stop=lambda: next(asked))
    assert len([o for o in job if isinstance(o, Scalars)]) == 1


def test_the_first_of_several_processes_drops_what_one_alone_would(place, world, monkeypatch):
    world = dataclasses.replace(world, run=toy_run(place, "adapter.dropout=0.5"))
    weight = world.policy.parameters()[0]

    def drawn():
        return accumulate(world, [lambda: (0 * weight.sum(), float(torch.rand(())))], step=1)

    alone, found = drawn(), []
    monkeypatch.setattr(Ranks, "sum_gradients", lambda self, parameters: None)
    for rank in range(2):
        monkeypatch.setattr(optimization, "ranks", lambda rank=rank: Ranks(rank, 2))
        found.append(drawn())
    assert found[0] == alone
    assert found[1] != alone


@pytest.mark.parametrize("method", ["acft", "dpg"])
def test_passes_at_once_change_no_bit(tmp_path, monkeypatch, method):
    run = toy_run(tmp_path, "schedule.rounds=2", "optimizer.micro_batch_size=2")
    found = []
    for workers in (1, 2):
        monkeypatch.setattr(
            "acft.training.world.base_policy",
            lambda run, n=workers: dataclasses.replace(base_policy(run), workers=Workers(n)),
        )
        found.append(trained(tmp_path / str(workers), run, {"name": method}))
    one, two = found
    assert one.scalars("policy/") == two.scalars("policy/")
    assert largest_difference(one.weights(2), two.weights(2)) == 0.0


def test_an_error_in_one_of_several_passes_is_raised():
    weight = torch.nn.Parameter(torch.ones(()))

    def fails():
        raise NonFiniteError("lost")

    with pytest.raises(NonFiniteError, match="lost"):
        backward([lambda: (2 * weight, 1), fails], [weight], Workers(2))


def test_a_parameter_without_part_in_a_pass_keeps_its_gradient():
    used, unused = (torch.nn.Parameter(torch.ones(())) for _ in range(2))
    passes = [lambda: (2 * used, "a"), lambda: (3 * used, "b")]
    assert backward(passes, [used, unused], Workers(2)) == ["a", "b"]
    assert used.grad == 5
    assert unused.grad is None


@pytest.mark.parametrize("workers", [2, 3])
def test_few_gradients_are_there_at_once_however_many_passes(monkeypatch, workers):
    weight = torch.nn.Parameter(torch.ones(()))
    weight.grad = torch.zeros(())
    alive, most, lock, ended = set(), [], threading.Lock(), threading.Semaphore(0)
    plain = torch.autograd.grad

    def watched(*args, **options):
        found = plain(*args, **options)
        with lock:
            alive.add(id(found[0]))
            most.append(len(alive))
        weakref.finalize(found[0], alive.discard, id(found[0]))
        ended.release()
        return found

    def first():
        for _ in range(workers):
            assert ended.acquire(timeout=60)
        return 3 * weight, 0

    monkeypatch.setattr(torch.autograd, "grad", watched)
    passes = [first, *(lambda n=n: (3 * weight, n) for n in range(1, 12))]
    assert backward(passes, [weight], Workers(workers)) == list(range(12))
    assert weight.grad == 36
    assert max(most) == workers + 1
