"""Every equation is broken on purpose, one edit at a time; some check must notice each.

The checks are few and quick, so that they can run against every mutant. Several mutants are
mistakes found in published code.
"""

import ast
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch

from acft import objective
from acft.types import TokenBatch

SOURCE = Path(objective.__file__).read_text(encoding="utf-8")

MUTANTS = {
    "values not shifted": ("next_values[:, :-1]", "next_values[:, 1:]"),
    "targets not shifted": ("batch.token_ids[:, 1:]", "batch.token_ids[:, :-1]"),
    "response mask not shifted": ("batch.response_mask[:, 1:]", "batch.response_mask[:, :-1]"),
    "padding in the response": (
        "batch.response_mask[:, 1:] & mask_all",
        "batch.response_mask[:, 1:]",
    ),
    "mean of the micro-batch": (".sum() / n_tokens", ".sum() / mask.sum()"),
    "mask ignored": ("torch.where(mask, upcast(values), 0.0).sum()", "upcast(values).sum()"),
    "mask multiplied": ("torch.where(mask, upcast(values), 0.0)", "(mask * upcast(values))"),
    "empty step accepted": ("n_tokens <= 0", "n_tokens < 0"),
    "bits for nats": ("return -upcast(", "return -1 / math.log(2) * upcast("),
    "normaliser dropped": ("return joint - log_z.unsqueeze(-1)", "return joint"),
    "strength ignored": ("strength * log_s if", "log_s if"),
    "strength 0 times infinity": ("if strength > 0.0 else torch.zeros_like(log_s)", ""),
    "negative strength accepted": ("not strength >= 0.0", "False"),
    "guidance differentiated": (
        "_checked_log_r(next_log_s).detach()",
        "_checked_log_r(next_log_s)",
    ),
    "policy inside q differentiated": ("upcast(next_logprobs).detach()", "upcast(next_logprobs)"),
    "impossible prefix accepted": ("torch.isneginf(log_z).any()", "False"),
    "caution: closed form lost": ("if rare == 0.0:", "if False:"),
    "caution: common tokens": ("upcast(next_logprobs) < math", "upcast(next_logprobs) > math"),
    "caution: towards rare tokens": (
        "torch.minimum(log_r, average)",
        "torch.maximum(log_r, average)",
    ),
    "caution: rare tokens never": ("torch.minimum(log_r, average)", "torch.full_like(log_r, -9)"),
    "caution: all tokens": (
        "torch.where(is_rare, torch.minimum",
        "torch.where(True, torch.minimum",
    ),
    "caution forgotten": (
        "cautious_log_r(next_logprobs, next_log_r, rare), str",
        "next_log_r, str",
    ),
    "soft: caution forgotten": (
        "_checked_log_r(cautious_log_r(next_logprobs, next_log_r, rare))",
        "_checked_log_r(next_log_r)",
    ),
    "soft: a is 1 / R(x)": ("math.log(delta) + log_r,", "log_r,"),
    "soft: b is delta / (1 - R(x))": ("math.log1p(-delta) if", "math.log(delta) if"),
    "soft: R(x) lost from b": (
        "+ log_r_prompt - log1mexp(log_r_prompt)",
        "- log1mexp(log_r_prompt)",
    ),
    "soft: 1 - R(x) lost from b": ("log_r_prompt - log1mexp(log_r_prompt)", "log_r_prompt"),
    "soft: violations weighted by R": (
        "(log_r_prompt) + log1mexp(log_r),",
        "(log_r_prompt) + log_r,",
    ),
    "soft: prompts mixed up": (
        "upcast(log_r_prompt).reshape(",
        "upcast(log_r_prompt).flip(0).reshape(",
    ),
    "soft: always active": ("log_r_prompt < math.log(delta)", "log_r_prompt <= 0"),
    "reach: of the token alone": ("pad(token_log_ratios.cumsum(dim=-1)", "pad(token_log_ratios"),
    "reach: one token ahead": ("(1, 0))", "(0, 1))"),
    "ratio: a is 1 / R(x)": ("return delta / r if", "return 1 / r if"),
    "ratio: violations never drawn": ("else (1.0 - delta) / (1.0 - r)", "else 0.0"),
    "ratio: always active": ("r >= delta", "r >= 1.0"),
    "soft: any delta accepted": ("not 0.0 < delta <= 1.0", "False"),
    "kl reversed": (
        "expectation(p_logprobs.exp(), p_logprobs - q_logprobs)",
        "expectation(q_logprobs.exp(), q_logprobs - p_logprobs)",
    ),
    "cross-entropy for kl": (
        "p_logprobs.exp(), p_logprobs - q_logprobs",
        "p_logprobs.exp(), -q_logprobs",
    ),
    "kl in bits": ("p_logprobs - q_logprobs)", "(p_logprobs - q_logprobs) / math.log(2))"),
    "0·inf not asked about": ("bool(total.isfinite().all())", "True"),
    "guard of p > 0 dropped": ("torch.where(probs > 0, values, 0.0)", "values"),
    "special case: no gradient": ("log_s - change_of_logprobs", "log_s"),
    "special case: gradient reversed": ("log_s - change_of_logprobs", "log_s + change_of_logprobs"),
    "special case: q for p": (
        "log_z - expectation(logprobs.exp(), log_s)",
        "expectation(logprobs.exp(), log_s) - log_z",
    ),
    "special case: log Z dropped": (
        "log_s - change_of_logprobs) - log_z",
        "log_s - change_of_logprobs)",
    ),
    "soft value: reference forgotten": (
        "upcast(next_q) + upcast(reference_logprobs) - logprobs",
        "upcast(next_q) - logprobs",
    ),
    "soft value: KL reversed": (
        "upcast(next_q) + upcast(reference_logprobs) - logprobs",
        "upcast(next_q) - upcast(reference_logprobs) + logprobs",
    ),
    "soft value: under the reference": (
        "expectation(logprobs.exp(), upcast(next_q)",
        "expectation(reference_logprobs.exp(), upcast(next_q)",
    ),
    "soft return: trace reversed": (
        "(1.0 - trace) * values[:, step + 1] + trace * came",
        "trace * values[:, step + 1] + (1.0 - trace) * came",
    ),
    "soft return: value of the same prefix": (
        "(1.0 - trace) * values[:, step + 1]",
        "(1.0 - trace) * values[:, step]",
    ),
    "soft return: straying costs nothing": (
        "returns[:, step + 1] - token_log_ratios[:, step + 1]",
        "returns[:, step + 1]",
    ),
    "soft return: of the token itself": (
        "- token_log_ratios[:, step + 1]",
        "- token_log_ratios[:, step]",
    ),
    "soft return: beyond the end": (
        "torch.where(mask[:, step + 1], goes_on",
        "torch.where(mask[:, step], goes_on",
    ),
    "entropy negative": ("return -expectation(", "return expectation("),
    "sigmoid applied twice": (
        "log_r = _checked_log_r(log_r)\n    c =",
        "log_r = torch.nn.functional.logsigmoid(_checked_log_r(log_r))\n    c =",
    ),
    "verdict reversed": (
        "c * log_satisfied + (1 - c) * log_violated",
        "(1 - c) * log_satisfied + c * log_violated",
    ),
    "violations not learned from": (
        "c * log_satisfied + (1 - c) * log_violated",
        "c * log_satisfied",
    ),
    "0·inf in the oracle loss": ("torch.where(c > 0, log_r, 0.0)", "log_r"),
    "0·inf in the oracle loss's other half": ("torch.where(c < 1, log_r, -1.0)", "log_r"),
    "logits accepted": ("log_r.amax() > LOG_R_ROUNDING", "False"),
    "rounding refused": ("log_r.amax() > LOG_R_ROUNDING", "log_r.amax() > 0"),
    "rounding kept": ("return upcast(log_r).clamp(max=0.0)", "return upcast(log_r)"),
    "consistency reversed": (
        "bernoulli_kl(_expected_log_r(next_logprobs, next_log_r), log_r)",
        "bernoulli_kl(log_r, _expected_log_r(next_logprobs, next_log_r))",
    ),
    "consistency unweighted": ("upcast(next_logprobs) + upcast(next_log_r)", "upcast(next_log_r)"),
    "rounding above log 1": ("joint.logsumexp(dim=-1).clamp(max=0.0)", "joint.logsumexp(dim=-1)"),
    "half a coin": (
        "torch.stack([log_p, log1mexp(log_p)], dim=-1)",
        "torch.stack([log_p, log_p], dim=-1)",
    ),
    "other half of a coin": (
        "torch.stack([log_q, log1mexp(log_q)], dim=-1)",
        "torch.stack([log_q, log_q], dim=-1)",
    ),
    "log1mexp naive": ("torch.where(x > -math.log(2), near, far)", "torch.log(1 - torch.exp(x))"),
    "log1mexp without near branch": (
        "torch.where(x > -math.log(2), near, far)",
        "torch.log1p(-torch.exp(x))",
    ),
    "log1mexp without far branch": (
        "torch.where(x > -math.log(2), near, far)",
        "torch.log(-torch.expm1(x))",
    ),
    "log1mexp with NaN gradient": ("torch.exp(x.clamp(max=-math.log(2)))", "torch.exp(x)"),
    "log1mexp with NaN gradient at 0": ("x.masked_fill(x == 0, -1.0)", "x"),
    "half precision kept": ("x.float() if x.dtype in (torch.float16, torch.bfloat16) else x", "x"),
    "float64 lost": ("x.float() if x.dtype in (torch.float16, torch.bfloat16) else x", "x.float()"),
}


def load(source: str) -> ModuleType:
    """A module of the source, left out of ``sys.modules``."""
    module = ModuleType("acft_objective_mutant")
    exec(compile(source, module.__name__, "exec"), module.__dict__)
    return module


def same(found: torch.Tensor, expected: object) -> None:
    expected = torch.as_tensor(expected, dtype=found.dtype)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-6)


def refuses(call: Callable[[], object], why: str) -> None:
    message = "not refused"
    try:
        call()
    except ValueError as error:
        message = str(error)
    assert why in message


def gradient(value: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor) -> torch.Tensor:
    at = at.clone().requires_grad_()
    return torch.autograd.grad(value(at).sum(), at)[0]


LOGITS = torch.tensor([[0.3, -1.2, 0.8], [1.0, 0.0, -2.0]], dtype=torch.float64)
P = LOGITS.softmax(dim=-1)
R = torch.tensor([[0.9, 0.5, 0.2], [0.1, 0.6, 0.3]], dtype=torch.float64)
NEVER = torch.tensor([[1.0, 0.5, 0.0], [0.2, 0.0, 0.0]], dtype=torch.float64)
RATE = (P * R).sum(dim=-1)
TILTED = P * R / RATE.unsqueeze(-1)


def check_align(o: ModuleType) -> None:
    real = torch.tensor([[True, True, True, False]])
    response = torch.tensor([[False, False, True, True]])
    batch = TokenBatch(torch.tensor([[4, 5, 6, 0]]), real, response)
    aligned = o.align(batch, torch.arange(4.0).reshape(1, 4, 1))
    assert aligned.values.flatten().tolist() == [0, 1, 2]
    assert aligned.targets.tolist() == [[5, 6, 0]]
    assert aligned.mask_all.tolist() == [[True, True, False]]
    assert aligned.mask_response.tolist() == [[False, True, False]]


def check_token_mean(o: ModuleType) -> None:
    values = torch.tensor([1.0, math.inf, 3.0], dtype=torch.float64)
    same(o.token_mean(values, torch.tensor([True, False, True]), 16), 0.25)
    refuses(lambda: o.token_mean(values, torch.tensor([True, False, True]), 0), "n_tokens")


def check_nll(o: ModuleType) -> None:
    same(o.nll(P.log(), torch.tensor([2, 0])), [-math.log(P[0, 2]), -math.log(P[1, 0])])


def check_guided(o: ModuleType) -> None:
    same(o.guided_next_logprobs(P.log(), R.log()).exp(), TILTED)
    squared = P * R**2
    same(o.guided_next_logprobs(P.log(), R.log(), 2.0).exp(), squared / squared.sum(-1, True))
    same(o.guided_next_logprobs(P.log(), NEVER.log(), 0.0).exp(), P)
    same(o.guided_next_logprobs(P.log(), torch.full_like(P, 1e-7)).exp(), P)
    refuses(lambda: o.guided_next_logprobs(P.log(), R.log(), -1.0), "strength")
    impossible = torch.full_like(P, -math.inf)
    refuses(lambda: o.guided_next_logprobs(P.log(), impossible), "row [0]")
    refuses(lambda: o.guided_next_logprobs(P.log(), LOGITS), "logits")


def check_guided_is_detached(o: ModuleType) -> None:
    leaf = torch.zeros((), dtype=torch.float64, requires_grad=True)
    for form in (
        o.guided_next_logprobs,
        lambda p, r: o.guided_next_logprobs_soft(p, r, 0.95, RATE.log()),
    ):
        assert not form(P.log() + leaf, R.log()).requires_grad
        assert not form(P.log(), R.log() + leaf).requires_grad


def check_guided_soft(o: ModuleType) -> None:
    delta = 0.4  # the first row's R(x) is above, the second's below
    a, b = delta / RATE[1], (1 - delta) / (1 - RATE[1])
    w = a * R[1] + b * (1 - R[1])
    same(
        o.guided_next_logprobs_soft(P.log(), R.log(), delta, RATE.log()).exp(),
        torch.stack([P[0], P[1] * w]),
    )
    hard = o.guided_next_logprobs_soft(P.log(), R.log(), 1.0, RATE.log())
    same(hard.exp(), TILTED)
    for call in (partial(o.guided_next_logprobs_soft, P.log(), R.log(), d) for d in (0.0, 1.5)):
        refuses(partial(call, RATE.log()), "delta")


def check_cautious(o: ModuleType) -> None:
    rare = 0.4  # of the first row all but the last token, of the second all but the first
    capped = torch.stack([torch.minimum(R[0], RATE[0]), torch.minimum(R[1], RATE[1])])
    capped[0, 2], capped[1, 0] = R[0, 2], R[1, 0]
    same(o.cautious_log_r(P.log(), R.log(), rare).exp(), capped)
    assert torch.equal(o.cautious_log_r(P.log(), R.log(), 0.0), R.log())
    weighed = P * capped
    same(o.guided_next_logprobs(P.log(), R.log(), 1.0, rare).exp(), weighed / weighed.sum(-1, True))
    soft = o.guided_next_logprobs_soft(P.log(), R.log(), 1.0, RATE.log(), 1.0, rare)
    same(soft.exp(), weighed / weighed.sum(-1, True))


def check_reach(o: ModuleType) -> None:
    same(o.log_reach(torch.tensor([[1.2, 1.5]]).log()).exp(), torch.tensor([[1.0, 1.2, 1.8]]))


def check_target_ratio(o: ModuleType) -> None:
    found = [
        o.target_ratio(r, d, c) for r in (0.5, 0.8) for d in (0.75, 1.0) for c in (True, False)
    ]
    same(torch.tensor(found), [1.5, 0.5, 2.0, 0.0, 1.0, 1.0, 1.25, 0.0])


def check_prompt_log_r(o: ModuleType) -> None:
    same(o.prompt_log_r(P.log(), R.log()), RATE.log())
    too_much = P.log() + 1e-7
    assert (o.prompt_log_r(too_much, torch.zeros_like(P)) <= 0).all()


def check_kl(o: ModuleType) -> None:
    q = TILTED
    same(o.kl_divergence(q.log(), P.log()), (q * (q / P).log()).sum(dim=-1))
    certain = torch.tensor([1.0, 0.0]).log()
    same(o.kl_divergence(certain, torch.tensor([0.5, 0.5]).log()), math.log(2))


def check_special_cases(o: ModuleType) -> None:
    p, log_r, q = LOGITS.log_softmax(dim=-1), R.log(), TILTED
    reverse = (P * (P / q).log()).sum(dim=-1)
    same(o.kl_guided_policy_same(p, log_r), (q * (q / P).log()).sum(dim=-1))
    same(o.kl_policy_guided_same(p, log_r), reverse)
    forward_gradient = gradient(lambda x: o.kl_guided_policy_same(x.log_softmax(-1), log_r), LOGITS)
    same(forward_gradient, P - q)
    reverse_gradient = gradient(lambda x: o.kl_policy_guided_same(x.log_softmax(-1), log_r), LOGITS)
    same(reverse_gradient, P * ((P / q).log() - reverse.unsqueeze(-1)))
    same(o.kl_guided_policy_same(p, NEVER.log())[1], -(P[1, 0].log()))


def check_soft_value(o: ModuleType) -> None:
    reference = R / R.sum(dim=-1, keepdim=True)
    value = (P * (R.log() + (reference / P).log())).sum(dim=-1)
    same(o.soft_value(P.log(), reference.log(), R.log()), value)
    same(o.soft_value(TILTED.log(), P.log(), R.log()), RATE.log())


def check_soft_returns(o: ModuleType) -> None:
    values = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -2.0, -3.0]])
    ratios = torch.tensor([[1.0, 2.0, 3.5], [1.0, 2.0, 3.5]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    found = o.soft_returns(torch.tensor([0.0, -4.0]), values, ratios, mask, 0.25)
    same(found[0], [0.75 * -2.0 + 0.25 * (-3.125 - 2.0), -3.125, 0.0])
    same(found[1, :2], [0.75 * -2.0 + 0.25 * (-4.0 - 2.0), -4.0])


def check_entropy(o: ModuleType) -> None:
    same(o.entropy(torch.tensor([0.5, 0.25, 0.25]).log()), 1.5 * math.log(2))


def check_oracle_bce(o: ModuleType) -> None:
    log_r = torch.tensor([[0.3], [0.3], [0.3]], dtype=torch.float64).log()
    verdicts = torch.tensor([1.0, 0.0, 0.25], dtype=torch.float64)
    yes, no = -math.log(0.3), -math.log(0.7)
    same(o.oracle_bce(log_r, verdicts)[:, 0], [yes, no, 0.25 * yes + 0.75 * no])
    certain = torch.tensor([[0.0], [-math.inf]])
    same(o.oracle_bce(certain, torch.tensor([1.0, 0.0])), [[0.0], [0.0]])
    at_one = gradient(lambda x: o.oracle_bce(x, torch.tensor([1.0])), torch.zeros(1, 1))
    same(at_one, [[-1.0]])
    refuses(lambda: o.oracle_bce(torch.tensor([[0.5]]), torch.tensor([1.0])), "logits")
    same(o.oracle_bce(torch.tensor([[1e-6]]), torch.tensor([1.0])), [[0.0]])


def check_consistency(o: ModuleType) -> None:
    log_r = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    same(o.consistency_gap(P.log(), R.log(), RATE.log()), [0.0, 0.0])
    expected = RATE * (RATE / 0.5).log() + (1 - RATE) * ((1 - RATE) / 0.5).log()
    same(o.consistency_gap(P.log(), R.log(), log_r), expected)


def check_bernoulli_kl(o: ModuleType) -> None:
    p, q = (torch.tensor(x, dtype=torch.float64).log() for x in (0.25, 0.6))
    same(o.bernoulli_kl(p, q), 0.25 * math.log(0.25 / 0.6) + 0.75 * math.log(0.75 / 0.4))
    same(o.bernoulli_kl(torch.full_like(p, 1e-6), torch.zeros_like(p) - 1.0), 1.0)


def check_expectation(o: ModuleType) -> None:
    same(o.expectation(torch.tensor([0.5, 0.0]), torch.tensor([3.0, math.inf])), 1.5)


def check_log1mexp(o: ModuleType) -> None:
    x = torch.tensor([-1e-20, -0.5, -1.0, -50.0], dtype=torch.float64)
    found = o.log1mexp(x)
    expected = [math.log(1e-20), math.log1p(-math.exp(-0.5)), math.log1p(-math.exp(-1)), 0.0]
    same(found, expected)
    assert float(found[-1]) == pytest.approx(-math.exp(-50), rel=1e-12, abs=0)
    assert torch.isfinite(gradient(o.log1mexp, torch.tensor([-1e-9, -200.0]))).all()
    assert float(o.log1mexp(torch.zeros(()))) == -math.inf
    unused = gradient(lambda x: torch.where(x < 0, o.log1mexp(x), 0.0), torch.zeros(1))
    same(unused, [0.0])


def check_dtypes(o: ModuleType) -> None:
    for dtype, accumulated in [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ]:
        assert o.upcast(torch.zeros(1, dtype=dtype)).dtype == accumulated


CHECKS = {name: check for name, check in globals().items() if name.startswith("check_")}


def first_to_notice(module: ModuleType) -> str | None:
    """Name of the first check that the module does not pass."""
    for name, check in CHECKS.items():
        try:
            check(module)
        except Exception:  # noqa: BLE001  # a crash gives a mutant away as well as a wrong number
            return name
    return None


def function_around(snippet: str) -> str:
    """The function or class of the equations' source that contains the snippet."""
    line = SOURCE[: SOURCE.index(snippet)].count("\n") + 1
    return next(
        node.name
        for node in ast.parse(SOURCE).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and node.lineno <= line <= (node.end_lineno or 0)
    )


def test_equations_as_they_are_pass_every_check():
    assert first_to_notice(load(SOURCE)) is None


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_noticed(name):
    before, after = MUTANTS[name]
    assert SOURCE.count(before) == 1, f"{before!r} must occur once in the equations"
    mutant = load(SOURCE.replace(before, after))
    assert first_to_notice(mutant) is not None


def test_every_equation_has_a_mutant_in_it_or_in_what_it_calls():
    mutated = {function_around(before) for before, _ in MUTANTS.values()}
    for node in ast.parse(SOURCE).body:
        if isinstance(node, ast.FunctionDef):
            names = {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
            assert mutated & (names | {node.name}), f"no mutant of {node.name}"
