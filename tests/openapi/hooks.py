"""What the API tester does not know by itself: bodies of one JSON document a line are sent as they are."""

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode()
