"""Takes seats in the theatre, through the client that openapi-python-client makes.

The test runs it with the address of a server.
"""

import sys

from theatre_client import Client
from theatre_client.api.commands import find_receipt, take_seat
from theatre_client.api.queries import how_many, seats, seats_by_post, who_sits
from theatre_client.api.queries import who_sits_explanation
from theatre_client.models import DiptychProblem, DiptychReceipt, Place, Seats, Take
from theatre_client.models import NotGivenSeatIsTaken, TakeSeatResponse422

client = Client(base_url=sys.argv[1])


def take(seat: str, by: str, key: str) -> DiptychReceipt:
    body = Take(seat=seat, by=by)
    receipt = take_seat.sync(client=client, body=body, idempotency_key=key)
    assert isinstance(receipt, DiptychReceipt), receipt
    return receipt


# A retry under the same key gets the same receipt.
first = take("p1", "ada", "p-1")
assert take("p1", "ada", "p-1") == first
last = take("p2", "bob", "p-2")

# A rejection is a typed value of the rule.
again = take_seat.sync_detailed(client=client, body=Take(seat="p1", by="eve"))
assert again.status_code == 422
assert isinstance(again.parsed, TakeSeatResponse422), again.parsed
rejection = again.parsed.rejection
assert isinstance(rejection, NotGivenSeatIsTaken), rejection
assert (rejection.seat, rejection.by) == ("p1", "ada")

# A query sees the events of a receipt.
assert who_sits.sync(client=client, seat="p2", field_after=last.receipt) == "bob"
assert who_sits.sync(client=client, seat="p3", field_after=last.receipt) is None

# A list comes in pages, by address and by body.
page = seats.sync_detailed(client=client, row="p", field_limit=1, field_after=last.receipt)
assert page.parsed == [Place(seat="p1", by=None)], page.parsed
assert page.headers["diptych-total"] == "2"
assert page.headers["link"].endswith('; rel="next"')
rest = seats_by_post.sync(
    client=client, body=Seats(row="p", names=True), field_offset=1, field_after=last.receipt
)
assert rest == [Place(seat="p2", by="bob")], rest

# An explanation has typed events.
explained = who_sits_explanation.sync(client=client, seat="p1")
assert not isinstance(explained, DiptychProblem), explained
assert [event.position for event in explained.events] == [first.first]
assert explained.is_whole and explained.next_ is None

# A commit is found by its key.
found = find_receipt.sync(client=client, key="p-2")
assert not isinstance(found, DiptychProblem) and found.last == last.last, found

# A problem has typed members.
beyond = how_many.sync(client=client, field_as_of=1_000_000)
assert isinstance(beyond, DiptychProblem), beyond
assert beyond.type_ == "urn:diptych:above-head"
assert beyond.head == last.last, beyond
invalid = take_seat.sync(client=client, body=Take(seat="", by="ada"))
assert isinstance(invalid, DiptychProblem) and invalid.field == "seat", invalid
