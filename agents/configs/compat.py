"""What the hub's client has no public way for."""

from huggingface_hub import constants


def go_offline() -> None:
    """Keep this process to the hub's cache.

    huggingface_hub 1.x reads ``HF_HUB_OFFLINE`` into this constant on import; later the variable is too late.
    """
    constants.HF_HUB_OFFLINE = True
