"""How much was searched and clicked since some place of the log; cheap however long the log is."""

from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from sameitem.clicks.log import CLICK_TYPES, events, searches
from sameitem.core.database import read
from sameitem.core.records import ContentHash


@dataclass(frozen=True, slots=True)
class Place:
    """A place of the log: the numbers of its last search and of its last event there."""

    search: int = 0
    event: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What came after a place of the log."""

    searches: int
    clicked: int  # of these searches, those with a click, cart or purchase
    newly_clicked: int  # searches, also older ones, that got a click, cart or purchase
    end: Place


def traffic_since(engine: Engine, place: Place) -> Traffic:
    """Count what the log holds after a place, as of one moment."""
    later = events.c.number > place.event
    clicks = select(events.c.search_id).where(later, events.c.type.in_(CLICK_TYPES)).distinct()
    with read(engine) as connection:
        new = select(func.count()).select_from(searches).where(searches.c.number > place.search)
        clicked = new.where(searches.c.search_id.in_(clicks))
        newly = select(func.count()).select_from(clicks.subquery())
        last_search, last_event = (connection.scalar(select(func.max(t.c.number))) or 0 for t in (searches, events))
        return Traffic(
            searches=connection.scalar(new) or 0,
            clicked=connection.scalar(clicked) or 0,
            newly_clicked=connection.scalar(newly) or 0,
            end=Place(last_search, last_event),
        )


def recent_photos(engine: Engine, count: int) -> list[ContentHash]:
    """Return the photos of the newest searches, each once, newest first; whether they are still kept is not looked at.

    Args:
        engine: of the log.
        count: of searches that are looked at.
    """
    newest = select(searches.c.photo_hash).where(searches.c.photo_hash != "").order_by(searches.c.number.desc())
    with read(engine) as connection:
        return [ContentHash(name) for name in dict.fromkeys(connection.scalars(newest.limit(count)))]
