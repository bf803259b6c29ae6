"""An SMTP server for tests, on a free port of loopback. It prints the port, and ends with its standard input.

Each e-mail that it takes is two files in the folder: `N.eml`, and `N.json` with the sender and the recipients; the second one is
there when both are whole. The part of a recipient's address before the `@` says how the server behaves:
  rcpt.550.5.1.1   answers so to the recipient, and names the address
  data.451.4.3.0   answers so to the e-mail
  slow             answers to the recipient after a minute
  hangup           closes the connection instead of an answer to the recipient
  cut              takes the e-mail, and closes the connection instead of an answer
  mute             takes the e-mail, and answers after a minute
"""

import argparse
import asyncio
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

arguments = argparse.ArgumentParser()
arguments.add_argument("folder")
arguments.add_argument("--certificate", help="offer STARTTLS, and nothing without it")
arguments.add_argument("--key")
arguments.add_argument("--implicit", action="store_true", help="TLS from the first byte on")
arguments.add_argument("--password", help="require the user `shop` with this password")
arguments.add_argument("--ascii", action="store_true", help="without SMTPUTF8")
options = arguments.parse_args()


def scripted(stage, address):
    """The answer that an address asks for at a stage."""
    local = address.rpartition("@")[0]
    if not local.startswith(f"{stage}."):
        return None
    code, _, status = local[len(stage) + 1 :].partition(".")
    return f"{code} {status} <{address}>: as the test asks for".replace("  ", " ")


class Mailbox:
    taken = 0

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address.startswith("slow@"):
            await asyncio.sleep(60)
        if address.startswith("hangup@"):
            server.transport.abort()
        answer = scripted("rcpt", address)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, server, session, envelope):
        address = envelope.rcpt_tos[0]
        answer = scripted("data", address)
        if answer is not None:
            return answer
        name = os.path.join(options.folder, str(Mailbox.taken))
        Mailbox.taken += 1
        with open(f"{name}.eml", "wb") as file:
            file.write(envelope.original_content or envelope.content)
        with open(f"{name}.tmp", "w", encoding="utf-8") as file:
            tls = session.ssl is not None or options.implicit
            json.dump({"from": envelope.mail_from, "to": envelope.rcpt_tos, "tls": tls, "peer": session.peer[1]}, file)
        os.rename(f"{name}.tmp", f"{name}.json")
        if address.startswith("cut@"):
            server.transport.abort()
        if address.startswith("mute@"):
            await asyncio.sleep(60)
        return "250 2.0.0 taken"


def authenticate(server, session, envelope, mechanism, login):
    right = login.login == b"shop" and login.password == options.password.encode()
    return AuthResult(success=right, handled=False)


async def serve():
    context = None
    if options.certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.certificate, options.key)
    settings = {"enable_SMTPUTF8": not options.ascii, "hostname": "smtp.test"}
    if context and not options.implicit:
        settings |= {"tls_context": context, "require_starttls": True}
    if options.password:
        settings |= {"authenticator": authenticate, "auth_required": True, "auth_require_tls": not options.implicit}
    loop = asyncio.get_running_loop()
    implicit = context if options.implicit else None
    server = await loop.create_server(lambda: SMTP(Mailbox(), loop=loop, **settings), "127.0.0.1", 0, ssl=implicit)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    # Without a wait for the clients that are still there.
    os._exit(0)


asyncio.run(serve())
