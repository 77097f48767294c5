"""A Campanile client in Python: publish a CAP file, watch alerts, get one.

    client.py [--address HOST:PORT --ca CA.pem --cert CERT.pem --key KEY.pem] publish --cap FILE [--exercise ID]
    client.py ... watch [--count N] [--timeout S] [--cursor-file F] [--from-start]
    client.py ... get IDENTIFIER [--sender S] [--sent T]

Data goes to stdout as JSON lines, the rest to stderr. Ends with 0 when done, 1 when the node refused, 2 when the
outcome is not known or time ran out. Publishing is safe to repeat: the same content gives the first answer again.
"""

import argparse
import json
import os
import pathlib
import random
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, os.environ.get("CAMPANILE_GENERATED", str(HERE / "generated")))

try:
    import grpc
    from google.protobuf import json_format
    from campanile.bus.v1 import alert_service_pb2 as bus
    from campanile.bus.v1 import alert_service_pb2_grpc as service
    from campanile.bus.v1 import record_pb2 as record
except ImportError as error:
    sys.exit(f"{error}: pip install -r requirements.txt, then run generate.py")

MESSAGE_BYTES_MAX = 2 << 20
CALL_SECONDS = 10
SILENCE_SECONDS = 15  # the node gives a sign of life every 5 s
ATTEMPTS_MAX = 5  # of a call
STREAM_ATTEMPTS_MAX = 80  # of a stream, counted from its last message
BACKOFF_SECONDS_FIRST, BACKOFF_SECONDS_MAX = 0.1, 10.0

# The answer was lost, or the node cannot answer now; anything else would fail again.
MAY_REPEAT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def say(text):
    print(text, file=sys.stderr, flush=True)


def show(message, **more):
    """Prints a message of the protocol as one JSON line."""
    value = json_format.MessageToDict(message)
    value.update(more)
    print(json.dumps(value, ensure_ascii=False), flush=True)


def backoff(failed):
    """The wait after `failed` failures in a row: doubling, capped, half of it random."""
    full = min(BACKOFF_SECONDS_FIRST * 2 ** min(failed - 1, 20), BACKOFF_SECONDS_MAX)
    return full * random.uniform(0.5, 1.0)


def connect(options):
    """Opens a channel over mutual TLS."""
    files = [pathlib.Path(path).read_bytes() for path in (options.ca, options.key, options.cert)]
    credentials = grpc.ssl_channel_credentials(*files)
    channel_options = [
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    # A node's certificate names its host; by an address, or through a tunnel, the name has to be said.
    if options.server_name:
        channel_options.append(("grpc.ssl_target_name_override", options.server_name))
    return grpc.secure_channel(options.address, credentials, options=channel_options)


def repeat(call, request):
    """Makes a call that is safe to repeat until it is answered, refused for good, or given up."""
    for failed in range(1, ATTEMPTS_MAX + 1):
        try:
            return call(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            if error.code() not in MAY_REPEAT or failed == ATTEMPTS_MAX:
                raise
            say(f"attempt {failed} failed ({error.code().name}), trying again")
            time.sleep(backoff(failed))


def publish(stub, options):
    request = bus.PublishRequest(cap_xml=pathlib.Path(options.cap).read_bytes(), source=options.source)
    if options.exercise:
        request.exercise_id = options.exercise
    request.audience_departments.extend(options.audience)
    show(repeat(stub.Publish, request))
    return 0


def get(stub, options):
    reference = bus.AlertRef(identifier=options.identifier, sender=options.sender, sent=options.sent)
    show(repeat(stub.Get, bus.GetRequest(id=reference)))
    return 0


def read_cursor(path):
    if path and os.path.exists(path):
        cursor = record.Cursor()
        cursor.ParseFromString(pathlib.Path(path).read_bytes())
        return cursor
    return None


def keep_cursor(path, cursor):
    """Writes the cursor whole or not at all, so that a crash cannot leave half of one."""
    if path:
        beside = f"{path}.new"
        pathlib.Path(beside).write_bytes(cursor.SerializeToString())
        os.replace(beside, path)


def receive(stub, request, ends):
    """Yields the messages of one stream; each must come within the silence limit and before `ends`."""
    stream = stub.Watch(request)
    # The stream itself has no deadline, so a timer ends it when nothing comes.
    import threading

    while True:
        limit = SILENCE_SECONDS if ends is None else max(0.0, min(SILENCE_SECONDS, ends - time.monotonic()))
        timer = threading.Timer(limit, stream.cancel)
        timer.start()
        try:
            message = next(stream, None)
        finally:
            timer.cancel()
        if message is None:
            return
        yield message


def watch(stub, options):
    """Prints alerts as they come; a broken stream is opened again after the last cursor."""
    cursor = read_cursor(options.cursor_file)
    ends = time.monotonic() + options.timeout if options.timeout else None
    seen, failed, last = 0, 0, None
    while True:
        request = bus.WatchRequest(from_start=options.from_start and cursor is None)
        if cursor is not None:
            request.after.CopyFrom(cursor)
        request.filter.departments.extend(options.department)
        request.filter.events.extend(options.event)
        try:
            for message in receive(stub, request, ends):
                failed = 0
                if message.WhichOneof("kind") == "alert" and message.alert.position != last:
                    last = message.alert.position
                    show(message.alert)
                    seen += 1
                # Only after the alert was dealt with, so that none is lost between two runs.
                if message.HasField("cursor"):
                    cursor = message.cursor
                    keep_cursor(options.cursor_file, cursor)
                if options.count and seen >= options.count:
                    return 0
            reason = "the node ended the stream"
        except grpc.RpcError as error:
            if error.code() not in MAY_REPEAT:
                raise
            reason = error.code().name
        failed += 1
        wait = backoff(failed)
        if ends is not None and time.monotonic() + wait >= ends:
            say(f"time is up after {seen} alerts")
            return 2 if options.count else 0
        if failed >= STREAM_ATTEMPTS_MAX:
            say(f"gave up after {failed} attempts: {reason}")
            return 2
        say(f"stream broke ({reason}), resuming after the last cursor")
        time.sleep(wait)


def arguments():
    parser = argparse.ArgumentParser(description="A Campanile client in Python.")
    parser.add_argument("--address", default="localhost:7443", help="host and port of the node")
    parser.add_argument("--ca", required=True, help="the CAs of the node's department, PEM")
    parser.add_argument("--cert", required=True, help="the client's certificate chain, PEM")
    parser.add_argument("--key", required=True, help="the client's private key, PEM")
    parser.add_argument("--server-name", default="", help="the DNS name in the node's certificate, when the address differs")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("publish", help="publish a CAP file")
    verb.add_argument("--cap", required=True, help="a CAP message in XML")
    verb.add_argument("--exercise", default="", help="the exercise, when the status is Exercise")
    verb.add_argument("--audience", action="append", default=[], help="a department that may read it (may be repeated)")
    verb.add_argument("--source", default="", help="the source whose mapping table classifies it")
    verb = verbs.add_parser("watch", help="print alerts as JSON lines")
    verb.add_argument("--count", type=int, default=0, help="end after so many alerts; 0 means go on")
    verb.add_argument("--timeout", type=float, default=0.0, help="end after so many seconds; 0 means go on")
    verb.add_argument("--cursor-file", default="", help="where to keep how far it has come")
    verb.add_argument("--from-start", action="store_true", help="without a cursor, begin at the beginning")
    verb.add_argument("--department", action="append", default=[], help="only of this department (may be repeated)")
    verb.add_argument("--event", action="append", default=[], help="only of this event (may be repeated)")
    verb = verbs.add_parser("get", help="print one alert with causes, effects and hand-overs")
    verb.add_argument("identifier")
    verb.add_argument("--sender", default="")
    verb.add_argument("--sent", default="")
    return parser.parse_args()


def main():
    options = arguments()
    try:
        with connect(options) as channel:
            stub = service.AlertServiceStub(channel)
            return {"publish": publish, "watch": watch, "get": get}[options.verb](stub, options)
    except OSError as error:
        sys.exit(f"{error}; give the paths of PEM and CAP files that can be read")
    except grpc.RpcError as error:
        say(f"{error.code().name}: {error.details()}")
        for fault in faults(error):
            say(f"  {fault}")
        return 2 if error.code() in MAY_REPEAT else 1
    except KeyboardInterrupt:
        return 0


def faults(error):
    """The fields at fault, where the node names them (google.rpc.BadRequest inside google.rpc.Status)."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            yield from violations(value)


def violations(status):
    """Reads the two small messages by hand, which saves the dependency on googleapis-common-protos."""
    for number, any_message in fields(status):
        if number != 3:
            continue
        parts = dict(fields(any_message))
        if parts.get(1, b"").endswith(b"google.rpc.BadRequest"):
            for number, violation in fields(parts.get(2, b"")):
                if number == 1:
                    texts = {at: text.decode(errors="replace") for at, text in fields(violation)}
                    yield f"{texts.get(1, '')}: {texts.get(2, '')}"


def fields(data):
    """Yields the number and bytes of each length-delimited field; passes the others over, ends at what it cannot read."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    try:
        while at < len(data):
            tag = varint()
            kind = tag & 7
            if kind == 2:
                length = varint()
                yield tag >> 3, data[at : at + length]
                at += length
            elif kind == 0:
                varint()
            else:
                at += {1: 8, 5: 4}[kind]
    except (IndexError, KeyError):
        return


if __name__ == "__main__":
    sys.exit(main())
