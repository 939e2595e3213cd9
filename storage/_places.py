"""How many places of a ticket may still pass, be refunded or be collected: pure arithmetic on its counters.

A place is one person.  The formulas are those of the domain model, section 6, told in uses where a right counts more
than one use a person: a place is wholly unused only if none of its uses can have been made, so each use is counted as
one by another person.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RightCount:
    """One right of a ticket; counters in uses. `uses` is per person, 0 is unlimited.

    `promised`: people with a credential of their own (paper that was handed out, or a name on a list) who have not used
    this right; `by_people`: uses made or held by people with one.
    """

    entitlement: int
    rule: int
    zone: str | None
    uses: int
    sold: int | None
    redeemed: int
    held: int
    refunded: int
    reserved_refund: int
    set_aside: int
    promised: int
    by_people: int

    @property
    def available(self) -> int | None:
        """Uses that are left; None when unlimited."""
        if self.sold is None:
            return None
        return self.sold - self.redeemed - self.held - self.refunded - self.reserved_refund

    @property
    def whole(self) -> int | None:
        """Places of which nothing was used; None when that is not counted."""
        if self.sold is None:
            return None
        return max(0, (self.sold - self.refunded - self.reserved_refund) // self.uses - self.redeemed - self.held)

    @property
    def untouched(self) -> bool:
        return self.redeemed == 0 and self.held == 0


@dataclass(slots=True)
class Places:
    """A ticket's rights taken together. `pax`: people it was sold for, transfers included."""

    pax: int
    given_back: int  # places refunded or being refunded
    rights: list[RightCount]

    @property
    def counted(self) -> bool:
        """Are uses counted by every right? An annual card's are not: it is refunded as a whole or not at all."""
        return all(right.sold is not None for right in self.rights)

    @property
    def people(self) -> int:
        """Who have not been refunded."""
        return self.pax - self.given_back

    @property
    def to_pass(self) -> int:
        """People who may still go in somewhere with it."""
        if not self.counted:
            return self.people
        return min(self.people, max((max(0, right.available or 0) for right in self.rights), default=0))

    @property
    def to_refund(self) -> int:
        if not self.counted:
            return self.people if all(right.untouched for right in self.rights) else 0
        return min((right.whole or 0 for right in self.rights), default=0)

    @property
    def promised(self) -> int:
        """People who have a credential of their own and have not used it."""
        return max((right.promised for right in self.rights), default=0)

    @property
    def free(self) -> int:
        """Places that are whole and promised to nobody: these can be collected, named, moved, and refunded first."""
        if not self.counted:
            return 0
        return max(0, min(((right.whole or 0) - right.promised for right in self.rights), default=0))


def amount_of(line_cents: int, line_people: int, given_back: int, refunded_cents: int, places: int) -> int:
    """What `places` more people of a line get back, in cents, when `refunded_cents` went to `given_back` before them.

    Cumulative, so that refunds in any portions add up to the line's price exactly, also when it does not divide.
    """
    return max(0, line_cents * (given_back + places) // line_people - refunded_cents)


def split(amount_cents: int, payments: list[tuple[int, int]]) -> list[tuple[int, int]] | None:
    """Share an amount out over payments, the last one first: (payment, cents left of it) -> (payment, cents).

    None when the payments do not hold so much.
    """
    parts = []
    for payment, left in sorted(payments, reverse=True):
        part = min(amount_cents, left)
        if part > 0:
            parts.append((payment, part))
            amount_cents -= part
    return parts if amount_cents == 0 else None
