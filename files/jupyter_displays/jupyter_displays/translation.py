"""Sentences of the server that its pages translate."""


def gettext_noop(message: str) -> str:
    """Mark a message for translation: src/messages.json then has it in each language."""
    return message
