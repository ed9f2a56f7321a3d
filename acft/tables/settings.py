"""What a ``table.toml`` may say: its rows, its sizes, and what it shows."""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from acft.benchmarks.base import SUITES
from acft.config import Config, checked
from acft.decoding.base import DECODERS
from acft.settings import Names, NonNegative

WIN_RATE = "win_rate"


class RowSettings(Config):
    """One row of the table."""

    name: str
    """What the table calls it."""
    changes: Names = ()
    """``section.key=value`` on top of the variant's settings, as in ``--set``."""
    family: Names = ()
    """Method of which this row is one setting; what a matched comparison compares. A list where the
    row is the limit of several, as a base is at infinite weight of a KL to it: a setting of each,
    measured once."""
    is_base: bool = False
    """Nothing is trained; the model is measured as it is, or as its decoder draws."""
    decoder: str = ""
    """Registered decoder that draws what is measured (see ``acft list``); empty draws as the row's
    method means it."""
    decoder_options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the decoder."""

    @field_validator("family", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return ([value] if value else ()) if isinstance(value, str) else value

    @field_validator("family")
    @classmethod
    def _named_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = [name for name, n in Counter(value).items() if n > 1]
        if twice or "" in value:
            raise ValueError(
                f"{f'{twice[0]!r} stands there twice' if twice else 'a name is empty'}; "
                "name each method once"
            )
        return value

    @model_validator(mode="after")
    def _decoder_is_possible(self) -> "RowSettings":
        if problem := checked(self._decoder_problem):
            raise ValueError(f"row {self.name!r}: {problem}")
        return self

    def _decoder_problem(self) -> str:
        """Why the row cannot be drawn so; empty where it can."""
        if not self.decoder:
            is_idle = bool(self.decoder_options)
            return "decoder_options has no effect without decoder; name one" if is_idle else ""
        kind = DECODERS.get(self.decoder)
        kind.settings_type.parse(self.decoder_options, f"row {self.name!r}: decoder_options")
        if kind.needs_oracle and self.is_base:
            return (
                f"decoder = {self.decoder!r} needs an oracle, and is_base = true trains none; "
                "leave is_base out, or name a decoder that needs none"
            )
        return ""


class VariantSettings(Config):
    """One size of the experiment: another model, the same rows."""

    file: str
    """Settings file, relative to the table's."""
    changes: Names = ()
    """``section.key=value`` for every row of this size, before the row's own."""
    suites: Names = ("rtp", "perplexity")
    """What measures every row."""
    scorers: Names = ()
    """Scorers that judge every row's responses; empty: those of the settings file."""
    judge: str = ""
    """Model whose likelihood judges responses, as in ``[model]``; for suites that need one."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of each suite, by its name."""
    columns: Names = ("*",)
    """Measurements in the table, as ``suite/scorer quantity`` with wildcards."""

    @field_validator("suites")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            checked(SUITES.get, name)
        return value


class TableSettings(Config):
    """The content of ``table.toml``."""

    title: str
    """What the table shows."""
    kind: Literal["measurements", "win_rate", "matched"] = "measurements"
    """A column for each measurement; win rates of every row over every other; or methods at the
    same cost, each over its own knob."""
    harms: Names = ()
    """Matched comparison: columns that should be low."""
    costs: Names = ()
    """Matched comparison: columns at which methods are matched, low as well."""
    ours: str = ""
    """Matched comparison: family that the others are compared with."""
    seeds: Annotated[tuple[NonNegative, ...], Field(strict=False, min_length=1)] = (0, 1, 2)
    """Each row is trained once with each."""
    rows: Annotated[tuple[RowSettings, ...], Field(strict=False, min_length=1)]
    variants: Annotated[dict[str, VariantSettings], Field(min_length=1)]
    """By name; the first is the default."""

    @model_validator(mode="after")
    def _names_differ(self) -> "TableSettings":
        twice = [name for name, n in Counter(row.name for row in self.rows).items() if n > 1]
        if twice:
            raise ValueError(f"two rows have the same name: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _kind_has_what_it_needs(self) -> "TableSettings":
        families = {family for row in self.rows for family in row.family}
        if self.kind != "matched" and (self.harms or self.costs or self.ours or families):
            raise ValueError(
                f"harms, costs, ours and family have no effect with kind = {self.kind!r}; leave "
                "them out, or set kind = 'matched'"
            )
        is_comparable = self.ours in families and len(families) > 1
        if self.kind == "matched" and not (self.harms and self.costs and is_comparable):
            raise ValueError(
                "kind = 'matched' needs harms, costs, two families in its rows, and ours as one of "
                f"these families (ours is {self.ours!r}, families: {', '.join(sorted(families))})"
            )
        for name, variant in self.variants.items():
            if self.kind == "win_rate" and not (variant.judge and WIN_RATE in variant.suites):
                raise ValueError(
                    f"kind = 'win_rate' needs judge and the suite {WIN_RATE!r} in variant {name!r}"
                )
        return self
