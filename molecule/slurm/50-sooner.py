"""Nobody has to wait two minutes in a test."""

c = get_config()  # type: ignore[name-defined]  # noqa: F821
c.CampusSlurmSpawner.unreachable_timeout = 15
c.CampusSpawner.answer_interval = 5
