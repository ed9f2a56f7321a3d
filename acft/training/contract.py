"""What every training method promises, checked while it is run: that it seals each of its rounds.

Whoever runs a method and writes its record draws its outputs through ``promised``.
"""

from collections.abc import Callable, Generator, Iterable
from typing import Any

from acft.errors import RunError, written_at
from acft.settings import EVALUATE
from acft.training.accounting import closed
from acft.training.outputs import Checkpoint, Output, TrainContext

Train = Callable[[Any, TrainContext], Iterable[Output]]


def promised(train: Train, settings: Any, context: TrainContext) -> Generator[Output, None, None]:
    """The outputs of a method's training function.

    Raises:
        RunError: It gives nothing to go through, or what is no output, or ended before all rounds
            were sealed, and neither a request to stop nor a budget can be why.
    """
    n_sealed = context.resume_round
    outputs: Any = train(settings, context)
    who = f"method {context.run.method.get('name')!r}{written_at(train)}"
    if not isinstance(outputs, Iterable):
        raise RunError(f"{who} gave {outputs!r}; it must be a generator, which yields its outputs")
    with closed(outputs):
        for output in outputs:
            if not isinstance(output, Output):
                raise RunError(
                    f"{who} yielded {output!r}, a {type(output).__name__}; allowed are events "
                    "(acft.events), Rows and Checkpoint (acft.training.outputs)"
                )
            n_sealed += isinstance(output, Checkpoint)
            yield output
    wanted = context.run.schedule.rounds
    may_end = context.run.limits.kl_base_budget > 0 and n_sealed > 0
    is_measuring = context.run.method.get("name") == EVALUATE  # whose suites are its rounds
    if n_sealed < wanted and not (may_end or is_measuring or context.should_stop()):
        raise RunError(
            f"{who} ended after {n_sealed} of {wanted} rounds; it must yield a "
            "Checkpoint at the end of each (is a last 'yield from all_rounds(...)' missing?)"
        )
