"""Keeps customers, through the client that openapi-python-client makes of the routes of a record.

The test runs it with the address of a server.
"""

import sys

from customers_client import Client
from customers_client.api.customer import create_customer, delete_customer, get_customer
from customers_client.api.customer import history_customer, list_customer, patch_customer
from customers_client.api.customer import replace_customer
from customers_client.models import Customer, ListCustomerOrder, PatchCustomerBody

client = Client(base_url=sys.argv[1])


def row(key: str, city: str, age: int) -> Customer:
    return Customer(id=key, email=f"{key}@example.org", city=city, age=age)


# A row is created once. The refusal is a typed value.
ann = create_customer.sync_detailed(client=client, body=row("ann", "Rome", 30))
assert ann.status_code == 201, ann
assert isinstance(ann.parsed, Customer) and ann.parsed.city == "Rome", ann.parsed
again = create_customer.sync_detailed(client=client, body=row("ann", "Rome", 30))
assert again.status_code == 409, again
assert again.parsed.rejection.kind == "exists", again.parsed
created = create_customer.sync(client=client, body=row("ben", "Oslo", 40), idempotency_key="b")
assert created == create_customer.sync(
    client=client, body=row("ben", "Oslo", 40), idempotency_key="b"
)

# A change needs the revision that was read.
revision = ann.headers["etag"]
patch = PatchCustomerBody.from_dict({"age": 31})
patched = patch_customer.sync_detailed("ann", client=client, body=patch, if_match=revision)
assert patched.status_code == 200 and patched.parsed.age == 31, patched
stale = patch_customer.sync_detailed("ann", client=client, body=patch, if_match=revision)
assert stale.status_code == 412 and stale.parsed.rejection.kind == "stale", stale
replaced = replace_customer.sync_detailed(
    "ann", client=client, body=row("ann", "Bern", 31), if_match=patched.headers["etag"]
)
assert isinstance(replaced.parsed, Customer) and replaced.parsed.city == "Bern", replaced
receipt = replaced.headers["diptych-receipt"]
shown = get_customer.sync_detailed("ann", client=client, field_after=receipt)
assert shown.parsed == replaced.parsed, shown
assert shown.headers["etag"] == replaced.headers["etag"], shown

# A list has filters, an order and pages.
oldest = ListCustomerOrder("-age")
page = list_customer.sync(client=client, field_order=oldest, field_limit=1, field_after=receipt)
assert [item.row.id for item in page.items] == ["ben"], page
rest = list_customer.sync(client=client, field_order=oldest, field_next_=page.next_)
assert [item.row.id for item in rest.items] == ["ann"] and rest.next_ is None, rest
in_oslo = list_customer.sync(client=client, city="Oslo")
assert [item.row.id for item in in_oslo.items] == ["ben"], in_oslo

# A deleted row is missing, and its history stays.
deleted = delete_customer.sync_detailed("ann", client=client)
assert deleted.status_code == 204, deleted
receipt = deleted.headers["diptych-receipt"]
gone = get_customer.sync_detailed("ann", client=client, field_after=receipt)
assert gone.status_code == 404 and gone.parsed.rejection.kind == "missing", gone
events = [change.event for change in history_customer.sync("ann", client=client)]
assert events == ["customer-created"] + ["customer-changed"] * 2 + ["customer-deleted"], events
