"""
What people can start: the profiles of the site, what each of them leaves to choose, and what was chosen, checked.

A profile says what a server is and how much it gets. Where it has several values for something, that is a question to
people. Forms, the API and links answer with the same options, and `choose` alone reads them: an option that a user's
profiles do not offer is an error, whoever sends it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from .host.user_session import parse_size
from .translation import gettext_noop

# The path of each interface at a server. That of a desktop is its own affair.
INTERFACES = {"lab": "/lab", "notebook": "/tree", "desktop": ""}
# Where servers run: on the hub's own host, or as jobs of a cluster.
LOCAL, SLURM = "local", "slurm"
NAME = re.compile(r"[a-z](-?[a-z0-9])*\Z")
NAME_LENGTH, TEXT_LENGTH = 30, 64
# Of an application, as role displays has it.
APPLICATION = re.compile(r"[a-z][a-z0-9-]*\Z")
PLACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
SIZE = re.compile(r"[0-9]{1,12}(\.[0-9]{1,3})?[KMGT]\Z|[0-9]{1,17}\Z")
NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?\Z")
COUNT = re.compile(r"[0-9]{1,3}\Z")
# The option of a start without the user's own settings of Jupyter and Python.
WITHOUT_SETTINGS = "without_settings"

# Messages; pages translate them and put the values in.
NOTHING = gettext_noop("There is nothing here that you may start. Please ask your administrator.")
NO_PROFILE = gettext_noop("“%(value)s” is not among what you can start here.")
NO_OPTION = gettext_noop("“%(name)s” is nothing that can be chosen here.")
UNREADABLE = gettext_noop("What was sent for “%(name)s” is no single short word or number.")
NOT_OFFERED = {
    "memory": gettext_noop("So much memory is not offered here: “%(value)s”. You can have %(offered)s."),
    "cpu": gettext_noop("So many CPU cores are not offered here: “%(value)s”. You can have %(offered)s."),
    "hours": gettext_noop("So many hours are not offered here: “%(value)s”. You can have %(offered)s."),
    "gpus": gettext_noop("So many GPUs are not offered here: “%(value)s”. You can have %(offered)s."),
    "": gettext_noop("“%(value)s” is not offered here. You can have %(offered)s."),
}

Value = str | float


class ProfileError(ValueError):
    """A profile that cannot be used, as its administrator reads it."""


class ChoiceError(ValueError):
    """Options that are not offered, with a message for whoever has sent them."""

    def __init__(self, template: str, **values: str) -> None:
        super().__init__(template % values)
        self.template, self.values = template, values


def read_memory(text: str) -> int:
    """Return a size such as 512M or 2G in bytes. Raises ValueError."""
    size = parse_size(text) if SIZE.match(text) else 0
    if not size:
        raise ValueError(f"{text!r} is no size such as 512M or 2G")
    return size


def read_number(text: str) -> float:
    """Return a positive number. Raises ValueError."""
    number = float(text) if NUMBER.match(text) else 0.0
    if not number:
        raise ValueError(f"{text!r} is no number such as 0.5 or 4")
    return number


def read_count(text: str) -> int:
    """Return a whole number, which may be none. Raises ValueError."""
    if not COUNT.match(text):
        raise ValueError(f"{text!r} is no whole number such as 0 or 2")
    return int(text)


def read_place(text: str) -> str:
    """Return a name that a cluster has for something. Raises ValueError."""
    if not PLACE.match(text):
        raise ValueError(f"{text!r} is no name of a cluster")
    return text


# What a profile may limit, in the order of the page.
AMOUNTS: dict[str, Callable[[str], Value]] = {"memory": read_memory, "cpu": read_number, "hours": read_number}
# What a profile may say of servers in a cluster alone; spawners that start servers there ask for it.
IN_CLUSTER: dict[str, Callable[[str], Value]] = {
    "gpus": read_count,
    "partition": read_place,
    "account": read_place,
    "qos": read_place,
}
READERS = AMOUNTS | IN_CLUSTER


def size_text(size: float) -> str:
    """Return a number of bytes as settings and links have it."""
    for factor, unit in ((2**40, "T"), (2**30, "G"), (2**20, "M"), (2**10, "K")):
        # In quarters, so that nothing is lost.
        if size >= factor and size % (factor / 4) == 0:
            return f"{size / factor:.15g}{unit}"
    return f"{size:.0f}"


@dataclass(frozen=True)
class Question:
    """
    What a profile leaves to people, or says itself where there is one value.

    Spawners may ask more than profiles do, such as where a server is to run; values of theirs are texts.
    """

    name: str
    values: tuple[Value, ...]
    default: Value
    # Whether the user's own limit has taken values away.
    is_capped: bool = False

    @property
    def is_open(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.values) > 1

    def text(self, value: Value) -> str:
        """Return a value as options have it."""
        if isinstance(value, str):
            return value
        return size_text(value) if self.name == "memory" else f"{value:g}"

    def capped(self, limit: float | None) -> Question:
        """Return the question without values beyond a limit; None is no limit. If none is left, the limit is it."""
        kept = tuple(value for value in self.values if limit is None or (not isinstance(value, str) and value <= limit))
        if limit is None or kept == self.values:
            return self
        values: tuple[Value, ...] = kept or (limit,)
        return replace(
            self, values=values, default=self.default if self.default in kept else values[-1], is_capped=True
        )

    def answer(self, text: str) -> Value:
        """Return the value that a text means. Raises ChoiceError."""
        with suppress(ValueError):
            value = READERS.get(self.name, str)(text)
            if value in self.values:
                return value
        offered = ", ".join(map(self.text, self.values))
        raise ChoiceError(NOT_OFFERED.get(self.name, NOT_OFFERED[""]), value=text, offered=offered)


@dataclass(frozen=True)
class Profile:
    """Something that people can start, as an administrator has described it."""

    name: str
    title: str
    description: str
    interface: str
    # What the display of a desktop starts; nothing is the desktop itself.
    application: str
    environment: str
    # LOCAL, SLURM, or nothing: where servers of this hub run that do not say it.
    run_on: str
    groups: frozenset[str]
    questions: tuple[Question, ...]
    in_cluster: tuple[Question, ...]


@dataclass(frozen=True)
class Offer:
    """A profile that a user may start, with what is left of its questions within the user's limits."""

    profile: Profile
    questions: tuple[Question, ...]

    @property
    def open_questions(self) -> list[Question]:
        """What there is to choose."""
        return [question for question in self.questions if question.is_open]

    def answers(self, options: Mapping[str, Any]) -> dict[str, Value]:
        """Return the answers to all questions. Raises ChoiceError."""
        known = {question.name: question for question in self.questions}
        for name in options:
            if name not in known:
                raise ChoiceError(NO_OPTION, name=shown(name))
        return {
            name: question.answer(text_of(name, options[name])) if name in options else question.default
            for name, question in known.items()
        }


@dataclass(frozen=True)
class Choice:
    """What a server is started with."""

    profile: Profile
    questions: tuple[Question, ...]
    answers: dict[str, Value]
    without_settings: bool = False

    def options(self) -> dict[str, str]:
        """Return the options that lead to this choice. What a profile itself says may have changed until then."""
        texts = {
            question.name: question.text(self.answers[question.name]) for question in self.questions if question.is_open
        }
        return {"profile": self.profile.name, **texts, **({WITHOUT_SETTINGS: "1"} if self.without_settings else {})}


def read_profiles(documents: Iterable[Mapping[str, Any]]) -> list[Profile]:
    """Return the profiles that an administrator has described. Raises ProfileError."""
    profiles: list[Profile] = []
    for document in documents:
        profile = read_profile(document)
        if profile.name in [other.name for other in profiles]:
            raise ProfileError(f"Two profiles have the name {profile.name!r}.")
        profiles.append(profile)
    return profiles


def read_profile(document: Mapping[str, Any]) -> Profile:
    """Return a profile. Raises ProfileError."""
    name = str(document.get("name", ""))
    known = {"name", "title", "description", "interface", "application", "environment", "run_on", "groups", *READERS}
    if not NAME.match(name) or len(name) > NAME_LENGTH:
        raise ProfileError(f"A profile cannot have the name {name!r}.")
    if unknown := sorted(set(document) - known):
        raise ProfileError(f"Profile {name} has {unknown[0]!r}, which is nothing that a profile has.")
    interface = document.get("interface") or ""
    if interface and interface not in INTERFACES:
        raise ProfileError(f"Profile {name} has the interface {interface!r}, and not one of {', '.join(INTERFACES)}.")
    application = document.get("application") or ""
    if application and (interface != "desktop" or not APPLICATION.match(application)):
        raise ProfileError(f"Profile {name} has the application {application!r}, and no display that could show it.")
    run_on = document.get("run_on") or ""
    if run_on not in ("", LOCAL, SLURM):
        raise ProfileError(f"Profile {name} is to run on {run_on!r}, and not on {LOCAL} or {SLURM}.")
    return Profile(
        name=name,
        title=str(document.get("title") or name),
        description=str(document.get("description") or ""),
        interface=interface,
        application=application,
        environment=str(document.get("environment") or ""),
        run_on=run_on,
        groups=frozenset(document.get("groups") or ()),
        questions=tuple(read_question(name, amount, document[amount]) for amount in AMOUNTS if document.get(amount)),
        in_cluster=tuple(read_question(name, what, document[what]) for what in IN_CLUSTER if document.get(what)),
    )


def read_question(profile: str, name: str, given: Any) -> Question:
    """Return a question from a value, or a list of values with the default in the first place. Raises ProfileError."""
    try:
        values = [READERS[name](str(value)) for value in (given if isinstance(given, list) else [given])]
    except ValueError as error:
        raise ProfileError(f"Profile {profile}: {name}: {error}.") from None
    return Question(name, tuple(sorted(set(values))), values[0])


def offers_of(
    profiles: Iterable[Profile],
    groups: Iterable[str],
    limits: Mapping[str, float | None],
    further: Callable[[Profile], tuple[Question, ...]] = lambda _: (),
) -> tuple[Offer, ...]:
    """Return what a member of these groups may start within these limits; `further` are the spawner's own questions."""
    groups = set(groups)
    return tuple(
        Offer(
            profile,
            (*(question.capped(limits.get(question.name)) for question in profile.questions), *further(profile)),
        )
        for profile in profiles
        if not profile.groups or profile.groups & groups
    )


def shown(text: object) -> str:
    """Return what somebody has sent as a message can show it."""
    return "".join(letter for letter in str(text)[:TEXT_LENGTH] if letter.isprintable())


def text_of(name: str, value: Any) -> str:
    """Return the one text that was sent for an option: forms and links send lists. Raises ChoiceError."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    # Not the numbers that Python cannot write; of `True` the text is no number.
    if isinstance(value, (int, float)) and abs(value) < 10**17:
        value = str(value)
    if not isinstance(value, str) or len(value) > TEXT_LENGTH or not value.isprintable():
        raise ChoiceError(UNREADABLE, name=shown(name))
    return value


def form_options(offers: Sequence[Offer], form: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the options in a form, which has the questions of all profiles, each with the name of its profile."""
    chosen = form.get("profile", [""])[-1]
    of_others = {
        f"{offer.profile.name}.{question.name}"
        for offer in offers
        for question in offer.questions
        if offer.profile.name != chosen
    }
    return {name.removeprefix(f"{chosen}."): values for name, values in form.items() if name not in of_others}


def choose(offers: Sequence[Offer], options: Mapping[str, Any]) -> Choice:
    """Return what options mean; what they leave out is as it is offered first. Raises ChoiceError."""
    if not offers:
        raise ChoiceError(NOTHING)
    rest, offer = dict(options), offers[0]
    if "profile" in rest:
        name = text_of("profile", rest.pop("profile"))
        found = [offer for offer in offers if offer.profile.name == name]
        if not found:
            raise ChoiceError(NO_PROFILE, value=name)
        offer = found[0]
    without = text_of(WITHOUT_SETTINGS, rest.pop(WITHOUT_SETTINGS, "")) in ("1", "True")
    return Choice(offer.profile, offer.questions, offer.answers(rest), without)


def recall(offers: Sequence[Offer], options: Mapping[str, Any]) -> Choice:
    """Return what earlier options mean now; what is not offered any more is as it is offered first."""
    for known in (options, {"profile": options.get("profile")}):
        with suppress(ChoiceError):
            return choose(offers, known)
    return choose(offers, {})
