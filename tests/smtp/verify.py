"""Checks the DKIM signature of an e-mail: verify.py FILE NAME RECORD, where the record is what the DNS would have at the name."""

import sys

import dkim

file, name, record = sys.argv[1:]


def lookup(asked, timeout=5):
    asked = asked.decode() if isinstance(asked, bytes) else asked
    return record.encode() if asked.rstrip(".") == name else None


with open(file, "rb") as message:
    content = message.read()
sys.exit(0 if dkim.verify(content, dnsfunc=lookup) else 1)
