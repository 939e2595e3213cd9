"""Which turnstile boards there are, and what each can do.

A command that a model lacks is refused before anything is sent: `check_standing` and `check_people` are what
`paifang check` asks, and the gate itself asks them again.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from drivers.base import AlarmKind, GateCapabilities
from drivers.turnstile._speech import Standing

DIGICON_PAX_MAX = 255  # the board releases one by one, so this bound is ours
MACHPOWER_PAX_MAX = 1  # nothing says when one has passed and the next may be let in; more with a passage sensor


class Body(StrEnum):
    TRIPOD = "tripod"
    WING = "wing"
    SWING = "swing"


class Transport(StrEnum):
    SERIAL = "serial"
    UDP = "udp"


class CommandLacking(ValueError):
    """The model has no such command."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model of turnstile, as the site file calls it by `name`.

    `senses_barrier` is whether the board says where its barrier stands; if not, what was commanded is reported, and a
    release is reported as `unknown` until somebody has looked, unless the board acknowledges it (`acknowledges`).
    `alarms` are those that its language can say; tailgating is inferred for a board that counts and does not say it.
    """

    name: str
    maker: str
    language: str
    body: Body
    capabilities: GateCapabilities
    standings: frozenset[Standing]
    alarms: frozenset[AlarmKind]
    transports: frozenset[Transport]
    baud: int  # as delivered
    pax_max: int  # people of one grant
    units_on_a_line: int
    senses_barrier: bool
    acknowledges: bool
    broadcast: bool  # a release for all boards of a line in one command


_BOARD4 = Model(
    name="",
    maker="several (Chinese swing, wing and tripod boards)",
    language="board4",
    body=Body.WING,
    capabilities=GateCapabilities(
        counts=True, direction=True, drop_arm=False, hold_open=True, anti_pinch=True, fire_input=True
    ),
    standings=frozenset({Standing.NORMAL, Standing.HELD, Standing.LOCKED}),
    alarms=frozenset(AlarmKind) - {AlarmKind.FAULT},
    transports=frozenset({Transport.SERIAL, Transport.UDP}),
    baud=9600,
    pax_max=255,
    units_on_a_line=255,
    senses_barrier=True,
    acknowledges=True,
    broadcast=True,
)
_MACHPOWER = Model(
    name="",
    maker="Mach Power",
    language="machpower",
    body=Body.SWING,
    capabilities=GateCapabilities(
        counts=False, direction=True, drop_arm=False, hold_open=False, anti_pinch=False, fire_input=False
    ),
    standings=frozenset({Standing.NORMAL, Standing.LOCKED}),
    alarms=frozenset(),
    transports=frozenset({Transport.SERIAL}),
    baud=9600,
    pax_max=MACHPOWER_PAX_MAX,
    units_on_a_line=255,
    senses_barrier=False,
    acknowledges=False,
    broadcast=False,
)
_DIGICON = Model(
    name="",
    maker="Digicon",
    language="digicon",
    body=Body.TRIPOD,
    capabilities=GateCapabilities(
        counts=False, direction=True, drop_arm=False, hold_open=True, anti_pinch=False, fire_input=False
    ),
    standings=frozenset({Standing.NORMAL, Standing.FREE, Standing.FREE_ENTRY, Standing.FREE_EXIT}),
    alarms=frozenset(),
    transports=frozenset({Transport.SERIAL}),
    baud=115200,
    pax_max=DIGICON_PAX_MAX,
    units_on_a_line=1,
    senses_barrier=False,
    acknowledges=True,
    broadcast=False,
)
_TPW_STANDINGS = frozenset(
    {
        Standing.NORMAL,
        Standing.HELD,
        Standing.FREE,
        Standing.FREE_ENTRY,
        Standing.FREE_EXIT,
        Standing.LOCKED,
    }
)
_TPW = Model(
    name="",
    maker="TPW",
    language="tpw",
    body=Body.SWING,
    capabilities=GateCapabilities(
        counts=True, direction=True, drop_arm=False, hold_open=True, anti_pinch=False, fire_input=False
    ),
    standings=_TPW_STANDINGS,
    alarms=frozenset({AlarmKind.TAILGATE}),
    transports=frozenset({Transport.SERIAL, Transport.UDP}),
    baud=9600,
    pax_max=255,
    units_on_a_line=255,
    senses_barrier=False,
    acknowledges=True,
    broadcast=False,
)


def _with_arm(model: Model, name: str) -> Model:
    """The tripod of a family: its arm can be dropped."""
    return msgspec.structs.replace(
        model,
        name=name,
        body=Body.TRIPOD,
        capabilities=msgspec.structs.replace(model.capabilities, drop_arm=True),
        standings=model.standings | {Standing.ARM_DROPPED},
    )


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        msgspec.structs.replace(_BOARD4, name="board4-tripod", body=Body.TRIPOD),
        msgspec.structs.replace(_BOARD4, name="board4-wing", body=Body.WING),
        msgspec.structs.replace(_BOARD4, name="board4-swing", body=Body.SWING),
        _with_arm(_MACHPOWER, "AC-ATRI-018"),
        msgspec.structs.replace(_MACHPOWER, name="AC-ASDSC-017-swing", body=Body.SWING),
        msgspec.structs.replace(_MACHPOWER, name="AC-ASDSC-017-wing", body=Body.WING),
        msgspec.structs.replace(_DIGICON, name="Tx1500"),
        msgspec.structs.replace(_DIGICON, name="CATRAX-Master"),
        msgspec.structs.replace(_TPW, name="TPW-321ASP"),
        _with_arm(_TPW, "TPW-tripod"),
    )
}
DEFAULT_MODELS = {
    "board4": "board4-wing",
    "machpower": "AC-ATRI-018",
    "digicon": "Tx1500",
    "tpw": "TPW-321ASP",
}
LANGUAGES = tuple(DEFAULT_MODELS)


def model_of(language: str, name: str = "") -> Model:
    """The model `name` of a language, its most common one when empty. Raises ValueError for what is not there."""
    if language not in DEFAULT_MODELS:
        raise ValueError(f"language {language!r} is not one of {', '.join(LANGUAGES)}")
    model = MODELS.get(name or DEFAULT_MODELS[language])
    if model is None or model.language != language:
        names = ", ".join(sorted(each.name for each in MODELS.values() if each.language == language))
        raise ValueError(f"model {name!r} of {language} is not one of {names}")
    return model


def check_standing(model: Model, standing: Standing) -> None:
    """Raises CommandLacking, with the standings that it has, for one that the model has not."""
    if standing not in model.standings:
        listed = ", ".join(sorted(each.value for each in model.standings))
        raise CommandLacking(f"{model.name} cannot stand {standing.value}; it can: {listed}")


def check_people(model: Model, pax: int, *, sensor: bool = False) -> None:
    """Raises CommandLacking for a group larger than the model can let in at once.

    `sensor` is whether a passage sensor of another device is wired to the lane: then a model that says nothing itself
    lets a group in one by one.
    """
    most = DIGICON_PAX_MAX if sensor and not model.acknowledges else model.pax_max
    if pax > most:
        raise CommandLacking(f"{model.name} lets in {most} at once, not {pax}: it does not say when somebody passed")
