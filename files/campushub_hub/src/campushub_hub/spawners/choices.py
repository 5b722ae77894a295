"""What people choose for a server, by the site's profiles; see `campushub_hub.profiles`."""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from typing import Any

from tornado.httputil import url_concat
from traitlets import Dict, Enum, List, TraitError, Unicode, default, validate
from traitlets.config import LoggingConfigurable

from campushub_hub.host import user_session
from campushub_hub.profiles import (
    INTERFACES,
    LOCAL,
    NO_PROFILE,
    SLURM,
    WITHOUT_SETTINGS,
    Choice,
    ChoiceError,
    Offer,
    Profile,
    ProfileError,
    Question,
    choose,
    offers_of,
    read_profiles,
    recall,
)

from .cluster import Free


class ChosenServer(LoggingConfigurable):
    """Servers that are as their users have chosen, to be mixed into a Spawner of JupyterHub."""

    # Attributes of the Spawner that this is mixed into.
    orm_spawner: Any
    user: Any
    user_options: dict[str, Any]
    default_url: str
    max_age: int
    chosen_age: int
    _limits: user_session.Limits
    _groups: AbstractSet[str]

    profiles = List(
        Dict(),
        config=True,
        help="""
        What people can start: dictionaries with `name`, `title`, `description`, `interface` (lab, notebook or desktop),
        `application` (the id of what a desktop's display shows in place of a desktop),
        `environment` (the name of a kernel with which new notebooks begin), `memory`, `cpu` and `hours` (a value, or a
        list to choose from with the default in the first place) and `groups` that may use it. Nobody gets more than
        their own limits. Empty asks nothing: each server is as the other settings say. `run_on` is local or slurm, and
        when not set as `SpawnerTable.default_run_on` says; servers in a Slurm cluster have `gpus`, `partition`,
        `account` and `qos` as well, each a value or a list.
        """,
    )
    programs = Dict(
        Unicode(),
        config=True,
        help="Path of the program that serves each `interface` of a profile, and of that without one.",
    )
    # Where this spawner starts servers, and where those run whose profile does not say it; see `mixed`.
    runs_on = LOCAL
    default_run_on = Enum([LOCAL, SLURM])
    # Of this run of the server.
    choice: Choice | None = None
    # What `default_url` was before any choice.
    _site_url: str | None = None

    @property
    def limits(self) -> user_session.Limits:
        """The user's own limits, over all their servers, as they were looked up last."""
        return self._limits

    @validate("profiles")
    def _valid_profiles(self, proposal: Any) -> Any:
        try:
            read_profiles(proposal["value"])
        except ProfileError as error:
            raise TraitError(str(error)) from None
        return proposal["value"]

    @default("apply_user_options")
    def _apply_user_options(self) -> Any:
        # The start does, which knows the user's limits. Without this JupyterHub warns that nobody does.
        return (lambda *_: None) if self.profiles else None

    @default("default_run_on")
    def _default_run_on(self) -> str:
        return self.runs_on

    def where(self, profile: Profile) -> str:
        """Return where servers of a profile run."""
        return profile.run_on or self.default_run_on

    @property
    def everywhere(self) -> set[str]:
        """Where servers of this hub may run; more than one place is said on pages."""
        return {self.where(profile) for profile in read_profiles(self.profiles)} or {self.default_run_on}

    @property
    def limits_per_server(self) -> bool:
        """Whether each server may have as much as its user, as Slurm sees to it; else that is for all of them."""
        return self.everywhere == {SLURM}

    def questions(self, profile: Profile) -> tuple[Question, ...]:
        """Return what a profile says of the cluster, or leaves to people, if its servers run there."""
        return profile.in_cluster if self.where(profile) == SLURM else ()

    async def free_in_cluster(self) -> dict[str, Free]:
        """Return what is free in the cluster now, by partition; nothing is unknown."""
        return {}

    def free_cores_here(self) -> int:
        """Return the CPU cores of this host that nobody has used in the last minute."""
        return max(0, len(os.sched_getaffinity(0)) - round(os.getloadavg()[0]))

    def offers(self) -> tuple[Offer, ...]:
        """Return what the user may start, by the groups and limits that were looked up last."""
        limits = {
            "memory": self._limits["memory"],
            "cpu": self._limits["cpu"],
            "hours": self.max_age / 3600 if self.max_age else None,
        }
        return offers_of(read_profiles(self.profiles), self._groups, limits, self.questions)

    def apply_choice(self) -> None:
        """Have the server started as the user has chosen. Raises ChoiceError."""
        if not self.profiles:
            return
        choice = choose(self.offers(), self.user_options)
        if self.where(choice.profile) != self.runs_on:
            # Of a hub without a cluster; see `mixed`.
            raise ChoiceError(NO_PROFILE, value=choice.profile.name)
        self.choice = choice
        self.user_options = options = choice.options()
        # What the next start begins with. JupyterHub has stored what it was sent, with what counts once.
        self.orm_spawner.user_options = {name: text for name, text in options.items() if name != WITHOUT_SETTINGS}
        self.user.db.commit()
        memory, cpu, hours = (choice.answers.get(name) for name in ("memory", "cpu", "hours"))
        # The user's own limits hold over all their servers; these do for this one as well.
        self.mem_limit, self.cpu_limit = memory or self._limits["memory"], cpu or self._limits["cpu"]
        self.chosen_age = round(float(hours) * 3600) if hours else 0
        self.cmd = [self.programs[choice.profile.interface]]
        if self._site_url is None:
            self._site_url = self.default_url
        self.default_url = INTERFACES.get(choice.profile.interface) or self._site_url

    def get_args(self) -> list[str]:
        """Add what the chosen profile says."""
        arguments: list[str] = super().get_args()  # type: ignore[misc]
        if self.choice:
            further = {
                "--MultiKernelManager.default_kernel_name": self.choice.profile.environment,
                "--application": self.choice.profile.application,
            }
            arguments += [f"{option}={value}" for option, value in further.items() if value]
        return arguments

    def last_choice(self) -> Choice | None:
        """Return what the server runs with, or did last, as far as the site still has it."""
        options = self.orm_spawner.user_options or {}
        profiles = read_profiles(self.profiles)
        if options.get("profile") not in [profile.name for profile in profiles]:
            return None
        groups = [group for profile in profiles for group in profile.groups]
        return recall(offers_of(profiles, groups, {}, self.questions), options)

    def link_with_choice(self, address: str) -> str:
        """Return the address of the page that starts the server with what was chosen for it, be that refused, in it."""
        if not self.profiles:
            return address
        options = {f"opt-{name}": value for name, value in self.user_options.items() if isinstance(value, str)}
        return url_concat(address, options)
