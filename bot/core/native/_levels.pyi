from bot.core.events import E12, Level

def apply_levels(
    levels: dict[E12, E12], changes: list[Level], best: E12, is_bid: bool, /
) -> E12: ...
def hold_marks(
    marks: dict[E12, E12], levels: dict[E12, E12], changes: list[Level], unseen: list[E12], /
) -> list[E12] | None: ...
